package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// printMachine writes what somebody needs to judge the figures: processor,
// kernel, versions, and how busy the machine was before the first measurement.
func printMachine(w io.Writer) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-9s %s\n", name, value)
		}
	}
	line("cpu", fmt.Sprintf("%s, %d usable%s", fieldOf("/proc/cpuinfo", "model name"), runtime.NumCPU(), hypervisor()))
	line("caches", caches())
	line("memory", fieldOf("/proc/meminfo", "MemTotal"))
	line("kernel", firstLine(readFile("/proc/sys/kernel/osrelease")))
	line("load", firstLine(readFile("/proc/loadavg")))
	line("go", runtime.Version())
	line("dpdk", output("pkg-config", "--modversion", "libdpdk"))
	line("ovs", output("ovs-vswitchd", "--version"))
	line("qemu", output("qemu-system-x86_64", "--version"))
	line("commit", output("git", "describe", "--always", "--dirty"))
}

func readFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.TrimSpace(s)
}

func fieldOf(path, name string) string {
	for l := range strings.Lines(readFile(path)) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func hypervisor() string {
	for f := range strings.FieldsSeq(fieldOf("/proc/cpuinfo", "flags")) {
		if f == "hypervisor" {
			return ", virtual machine"
		}
	}
	return ""
}

func caches() string {
	var all []string
	for i := range 8 {
		dir := fmt.Sprintf("/sys/devices/system/cpu/cpu0/cache/index%d/", i)
		size := firstLine(readFile(dir + "size"))
		if size == "" {
			break
		}
		all = append(all, fmt.Sprintf("L%s %s %s", firstLine(readFile(dir+"level")),
			strings.ToLower(firstLine(readFile(dir+"type"))), size))
	}
	return strings.Join(all, ", ")
}

// output gives the first line a program prints, or "".
func output(program string, args ...string) string {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return ""
	}
	return firstLine(string(out))
}
