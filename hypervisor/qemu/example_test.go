package qemu_test

import (
	"fmt"
	"strings"

	"github.com/vale-vmnet/vale-vmnet/hypervisor/qemu"
)

func ExampleRewrite() {
	env := qemu.Env{
		Version:   qemu.Version{Major: 8, Minor: 2},
		Backends:  qemu.Backends{"vhost-user": true, "stream": true},
		KVMUsable: true,
		Resolve: func(ifname string) (qemu.Endpoint, error) {
			return qemu.Endpoint{Port: ifname, VhostUser: "/run/vale-vmnet/" + ifname + ".sock"}, nil
		},
	}
	args := strings.Fields("qemu-system-x86_64 -accel kvm -m 1G -net nic -net netmap,ifname=vale-1:a disk.img")
	res, err := qemu.Rewrite(args, env)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.ReplaceAll(strings.Join(res.Args, " "), " -", "\n  -"))
	fmt.Println(res.VM.NICs[0].Port, "is on", res.VM.NICs[0].Link)
	// Output:
	// qemu-system-x86_64
	//   -accel kvm
	//   -m 1G
	//   -net nic,model=virtio,macaddr=52:54:00:25:0d:3c,netdev=vale0
	//   -chardev socket,id=vale0-chr,path=/run/vale-vmnet/vale-1:a.sock,reconnect=1
	//   -netdev vhost-user,id=vale0,chardev=vale0-chr disk.img
	//   -object memory-backend-memfd,id=vale-mem,size=1G,share=on
	//   -machine memory-backend=vale-mem
	// vale-1:a is on vhost-user
}
