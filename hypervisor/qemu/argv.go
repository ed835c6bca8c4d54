package qemu

import "strings"

// arg is one option of the command line with its value, or a positional
// argument (a disk image), for which opt is empty.
type arg struct {
	opt string   // name without dashes
	val string   // the option's value
	out []string // what stands in the new command line; as written at first
}

// written is the option the way its user knows it, for messages.
func (a *arg) written() string {
	if a.val == "" {
		return "-" + a.opt
	}
	return "-" + a.opt + " " + a.val
}

// replace puts other words in place of the option.
func (a *arg) replace(words ...string) { a.out = words }

// setProps writes changed properties back to the option.
func (a *arg) setProps(p *props) { a.out = []string{"-" + a.opt, p.String()} }

// flagOptions are the options of QEMU that take no value, of all versions
// since 1.0. Knowing them matters because QEMU takes the word after any other
// option as its value, even one that begins with a dash.
var flagOptions = wordSet(`
	h help version S s snapshot usb nographic portrait full-screen sdl curses no-frame
	alt-grab ctrl-grab no-quit win2k-hack no-fd-bootchk no-acpi no-hpet rtc-td-hack
	localtime tdf no-reboot no-shutdown daemonize singlestep one-insn-per-tb preconfig
	enable-kvm no-kvm no-kvm-irqchip no-kvm-pit no-kvm-pit-reinjection enable-hax
	enable-fips mem-prealloc only-migratable nodefaults nodefconfig nouserconfig
	no-user-config old-param semihosting xen-attach xen-create xen-domid-restrict
	async-teardown enable-sync-profile audio-help virtfs_synth show-cursor perfmap
	jitdump old-param`)

// valueOptions are the options of QEMU that take a value. An option in neither
// list takes a value if the next word does not begin with a dash.
var valueOptions = wordSet(`
	machine M cpu accel smp numa add-fd set global boot m mem-path k audio audiodev soundhw
	device name uuid fda fdb hda hdb hdc hdd cdrom blockdev drive mtdblock sd pflash fsdev
	virtfs iscsi usbdevice display spice rotate vga g vnc acpitable smbios netdev nic net
	chardev tpmdev bios kernel append initrd dtb shim compat fw_cfg serial parallel monitor qmp
	qmp-pretty mon debugcon pidfile overcommit realtime gdb d D dfilter seed L xen-domid
	action loadvm option-rom rtc startdate clock icount watchdog watchdog-action echr
	incoming chroot runas run-with sandbox readconfig writeconfig trace plugin msg
	dump-vmstate object semihosting-config prom-env qtest qtest-log tb-size balloon bt
	hdachs tftp smb bootp redir virtioconsole igd-passthru pcidevice drive smp osk`)

func wordSet(words string) map[string]bool {
	set := make(map[string]bool)
	for w := range strings.FieldsSeq(words) {
		set[w] = true
	}
	return set
}

// parseArgs splits the words after the program's name into options. It never
// fails on options it does not know; an option of QEMU that lacks its value
// is refused, since a word added behind it would become that value.
func parseArgs(words []string) ([]*arg, error) {
	var args []*arg
	for i := 0; i < len(words); i++ {
		word := words[i]
		if !strings.HasPrefix(word, "-") {
			args = append(args, &arg{val: word, out: words[i : i+1 : i+1]})
			continue
		}
		// QEMU accepts one dash or two.
		opt := strings.TrimPrefix(word[1:], "-")
		a := &arg{opt: opt, out: words[i : i+1 : i+1]}
		if takesValue(opt, words[i+1:]) {
			if i+1 == len(words) {
				return nil, refuse(ErrSyntax, word, "the option needs a value", "give one or remove the option")
			}
			a.val, a.out = words[i+1], words[i:i+2:i+2]
			i++
		}
		args = append(args, a)
	}
	return args, nil
}

func takesValue(opt string, rest []string) bool {
	switch {
	case flagOptions[opt]:
		return false
	case valueOptions[opt]:
		return true
	default:
		return len(rest) > 0 && !strings.HasPrefix(rest[0], "-")
	}
}

// joinArgs is the inverse of parseArgs.
func joinArgs(args []*arg) []string {
	var words []string
	for _, a := range args {
		words = append(words, a.out...)
	}
	return words
}
