package guest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Packages that always depend on the newest kernel: Debian's first, then
// Ubuntu's, which has one kernel for both purposes.
var kernelPackages = map[Flavour][]string{
	Cloud: {"linux-image-cloud-amd64", "linux-image-virtual"},
	Full:  {"linux-image-amd64", "linux-image-virtual"},
}

// fetchKernel returns the directory with the unpacked kernel packages. A kernel
// in the cache is good for ever: these guests meet nobody but each other.
func fetchKernel(ctx context.Context, cache string, o Options) (string, error) {
	tree := filepath.Join(cache, "kernel-"+string(o.Flavour))
	if _, err := os.Stat(tree); err == nil {
		return tree, nil
	}
	names, err := kernelPackageNames(ctx, o.Flavour)
	if err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, ".kernel-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	o.Progress("download %s (once)", strings.Join(names, " "))
	if err := aptDownload(ctx, work, names); err != nil {
		return "", err
	}
	debs, _ := filepath.Glob(filepath.Join(work, "*.deb"))
	unpacked := filepath.Join(work, "tree")
	for _, deb := range debs {
		if _, err := output(ctx, work, "dpkg-deb", "-x", deb, unpacked); err != nil {
			return "", err
		}
	}
	// Of two builders one wins; the other takes the winner's tree.
	if err := os.Rename(unpacked, tree); err != nil {
		if _, statErr := os.Stat(tree); statErr != nil {
			return "", fmt.Errorf("put kernel into cache: %w", err)
		}
	}
	return tree, nil
}

var versionedKernel = regexp.MustCompile(`^linux-(image|modules)-[0-9]`)

// kernelPackageNames follows the dependencies of the flavour's package to the
// packages with files in them.
func kernelPackageNames(ctx context.Context, f Flavour) ([]string, error) {
	var last error
	for _, meta := range kernelPackages[f] {
		var names []string
		seen := map[string]bool{meta: true}
		for todo := []string{meta}; len(todo) > 0; todo = todo[1:] {
			out, err := output(ctx, "", "apt-cache", "depends", "--important", todo[0])
			if err != nil {
				last = err
				break
			}
			for _, dep := range parseDepends(string(out)) {
				if versionedKernel.MatchString(dep) && !seen[dep] {
					seen[dep] = true
					names = append(names, dep)
					todo = append(todo, dep)
				}
			}
		}
		if len(names) > 0 {
			return names, nil
		}
	}
	if last != nil {
		return nil, fmt.Errorf("find kernel package: %w (run apt-get update as root)", last)
	}
	return nil, fmt.Errorf("find kernel package: none of %s names a kernel (run apt-get update as root)", strings.Join(kernelPackages[f], ", "))
}

// parseDepends reads the "  Depends: name" lines; of alternatives ("|Depends:
// a" then "Depends: b") it takes the first, as apt does.
func parseDepends(out string) []string {
	var names []string
	alternative := false
	for line := range strings.Lines(out) {
		kind, name, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || strings.TrimPrefix(kind, "|") != "Depends" {
			continue
		}
		if !alternative {
			names = append(names, name)
		}
		alternative = strings.HasPrefix(kind, "|")
	}
	return names
}

// aptDownload needs no privilege but the package lists. Lists that are older
// than the archive name files that are gone; root can do something about it.
func aptDownload(ctx context.Context, dir string, names []string) error {
	args := append([]string{"download"}, names...)
	_, err := output(ctx, dir, "apt-get", args...)
	if err == nil {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w (run apt-get update as root)", err)
	}
	if _, err := output(ctx, dir, "apt-get", "update"); err != nil {
		return err
	}
	_, err = output(ctx, dir, "apt-get", args...)
	return err
}

// output runs a program and puts what it complained about into the error.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}
