package guest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// module is a kernel module ready for the guest: plain ELF, whatever
// compression the distribution uses.
type module struct {
	name string // "virtio_net"
	elf  []byte
}

// resolveModules returns the modules of the unpacked kernel tree that the
// wanted ones need, dependencies first. What the kernel has built in, or
// (optional) does not have at all, is left out.
//
// Packages carry no modules.dep: depmod makes it when a package is installed,
// and these never are. The dependencies stand in each module's own .modinfo.
func resolveModules(tree string, want []string) ([]module, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, _, ok := strings.Cut(filepath.Base(p), ".ko"); ok && d.Type().IsRegular() {
			paths[canonicalModule(name)] = p
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list modules in %s: %w", tree, err)
	}
	var order []module
	visited := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = canonicalModule(name)
		path, ok := paths[name]
		if !ok || visited[name] {
			return nil
		}
		visited[name] = true
		data, err := readModule(path)
		if err != nil {
			return err
		}
		needs, err := moduleDepends(data)
		if err != nil {
			return fmt.Errorf("read dependencies of %s: %w", path, err)
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, module{name, data})
		return nil
	}
	for _, name := range want {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// canonicalModule: the kernel treats - and _ alike in module names.
func canonicalModule(name string) string { return strings.ReplaceAll(name, "-", "_") }

func readModule(path string) ([]byte, error) {
	var tool string
	switch filepath.Ext(path) {
	case ".ko":
		return os.ReadFile(path)
	case ".xz":
		tool = "xz"
	case ".zst":
		tool = "zstd"
	case ".gz":
		tool = "gzip"
	default:
		return nil, fmt.Errorf("read module %s: unknown compression", path)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(tool, "-dc", path)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("decompress module %s: %w %s", path, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// moduleDepends reads "depends=a,b" from the NUL-separated .modinfo section.
func moduleDepends(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	info, err := sec.Data()
	if err != nil {
		return nil, err
	}
	for _, field := range strings.Split(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
