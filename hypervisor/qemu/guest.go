package qemu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vale-vmnet/vale-vmnet/hypervisor"
)

// impliedKeys are the keys of a first property without "=", per option. Only
// these options are looked into; all others pass through unread.
var impliedKeys = map[string]string{
	"net":     "type",
	"netdev":  "type",
	"nic":     "type",
	"device":  "driver",
	"object":  "qom-type",
	"chardev": "backend",
	"machine": "type",
	"M":       "type",
	"m":       "size",
	"numa":    "type",
	"accel":   "accel",
	"name":    "guest",
	"global":  "",
}

// jsonOptions are the options of those that QEMU also reads as JSON.
var jsonOptions = wordSet("device object netdev numa")

// option is an option that has been looked into.
type option struct {
	*arg
	*props
}

// store writes changed properties back to the command line.
func (o option) store() { o.setProps(o.props) }

// guest is a command line with what rewriting needs to know about it.
type guest struct {
	program string
	args    []*arg
	opts    map[string][]option // by option name, in order; -M is "machine"
	ids     map[string]bool     // every id in use, of any kind

	name, uuid string
	memPath    []*arg
	enableKVM  bool
	readConfig bool
}

func readGuest(words []string) (*guest, error) {
	args, err := parseArgs(words[1:])
	if err != nil {
		return nil, err
	}
	g := &guest{program: programName(words), args: args, opts: map[string][]option{}, ids: map[string]bool{}}
	for _, a := range args {
		switch a.opt {
		case "uuid":
			g.uuid = a.val
		case "mem-path":
			g.memPath = append(g.memPath, a)
		case "enable-kvm":
			g.enableKVM = true
		case "readconfig":
			g.readConfig = true
		}
		implied, known := impliedKeys[a.opt]
		if !known {
			continue
		}
		p, err := parseProps(a.val, implied, jsonOptions[a.opt])
		if err != nil {
			return nil, refuse(ErrSyntax, a.written(), fmt.Sprintf("cannot be read: %v", err), "correct the JSON text")
		}
		name := a.opt
		if name == "M" {
			name = "machine"
		}
		g.opts[name] = append(g.opts[name], option{a, p})
		if id := p.get("id"); id != "" {
			g.ids[id] = true
		}
	}
	for _, o := range g.opts["name"] {
		if n := o.get("guest"); n != "" {
			g.name = n
		}
	}
	return g, nil
}

// newID gives an id that nothing on the command line has.
func (g *guest) newID(base string) string {
	id := base
	for n := 1; g.ids[id]; n++ {
		id = fmt.Sprintf("%s-%d", base, n)
	}
	g.ids[id] = true
	return id
}

// last gives the last value of a property over all options of a name: QEMU
// merges repeated -machine and -m options.
func (g *guest) last(opt, key string) string {
	val := ""
	for _, o := range g.opts[opt] {
		if v, ok := o.lookup(key); ok {
			val = v
		}
	}
	return val
}

// accel tells what will execute the guest: the first usable accelerator of
// the command line's list, or QEMU's default, which is TCG unless the program
// is called kvm (accel/accel-*.c and vl.c, configure_accelerators).
func (g *guest) accel(kvmUsable bool) hypervisor.Accel {
	var list []string
	for _, o := range g.opts["accel"] {
		list = append(list, o.get("accel"))
	}
	if a := g.last("machine", "accel"); a != "" {
		list = append(list, strings.Split(a, ":")...)
	}
	if g.enableKVM {
		list = append(list, "kvm")
	}
	if len(list) == 0 {
		list = []string{"tcg"}
		if strings.HasSuffix(g.program, "kvm") {
			list = []string{"kvm", "tcg"}
		}
	}
	for _, a := range list {
		if a != "kvm" || kvmUsable {
			return hypervisor.Accel(a)
		}
	}
	return hypervisor.Accel(list[0])
}

// choosesAccel reports whether the user named an accelerator.
func (g *guest) choosesAccel() bool {
	return g.enableKVM || len(g.opts["accel"]) > 0 || g.last("machine", "accel") != ""
}

// ramSize is the size of the guest's RAM at start (without hot-pluggable
// memory). explicit is false if the command line leaves it to QEMU.
func (g *guest) ramSize() (size uint64, explicit bool, err error) {
	text, def, written := "", byte('M'), ""
	for _, o := range g.opts["m"] {
		if v, ok := o.lookup("size"); ok {
			text, def, written = v, 'M', o.written()
		}
	}
	for _, o := range g.opts["machine"] {
		if v, ok := o.lookup("memory.size"); ok {
			text, def, written = v, 'B', o.written()
		}
	}
	if text == "" {
		return g.backendSize(), false, nil
	}
	n, err := parseSize(text, def)
	if err != nil {
		return 0, true, refuse(ErrSyntax, written, err.Error(), "write the guest's memory like 512M or 2G")
	}
	if n == 0 {
		return g.backendSize(), false, nil
	}
	return (n + ramAlign - 1) / ramAlign * ramAlign, true, nil
}

// backendSize is the size of RAM without -m: that of the machine's memory back
// end if the user gave it one.
func (g *guest) backendSize() uint64 {
	id := g.last("machine", "memory-backend")
	for _, o := range g.opts["object"] {
		if id == "" || o.get("id") != id {
			continue
		}
		if n, err := parseSize(o.get("size"), 'B'); err == nil {
			return n
		}
	}
	return defaultRAM
}

// setsVectors reports whether the user chose the number of MSI-X vectors of
// virtio-net devices with -global.
func (g *guest) setsVectors() bool {
	return slices.ContainsFunc(g.opts["global"], func(o option) bool {
		if o.get("property") == "vectors" && strings.HasPrefix(o.get("driver"), "virtio-net") {
			return true
		}
		return slices.ContainsFunc(o.items, func(it prop) bool {
			return strings.HasPrefix(it.key, "virtio-net") && strings.HasSuffix(it.key, ".vectors")
		})
	})
}
