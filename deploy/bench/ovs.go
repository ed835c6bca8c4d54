package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ovs is Open vSwitch with the DPDK datapath and the NORMAL action: a learning
// switch with a flow cache, OVS's counterpart of ours. It runs beside an OVS of
// the machine: own database, own sockets, own network namespace (its datapath
// creates tap devices).
type ovs struct{}

const ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"

// ovsDaemon finds the vswitchd that was built with DPDK. Debian installs it
// beside the plain one and selects through update-alternatives, which is the
// administrator's business, not ours.
func ovsDaemon() (string, error) {
	const debian = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
	if _, err := os.Stat(debian); err == nil {
		return debian, nil
	}
	return exec.LookPath("ovs-vswitchd")
}

func (ovs) name() string { return "ovs" }

func (ovs) missing() string {
	const remedy = "Debian and Ubuntu: package openvswitch-switch-dpdk"
	if os.Geteuid() != 0 {
		return "the ovs target must run as root"
	}
	if _, err := ovsDaemon(); err != nil {
		return "ovs-vswitchd is not installed (" + remedy + ")"
	}
	if _, err := os.Stat(ovsSchema); err != nil {
		return ovsSchema + " is missing (" + remedy + ")"
	}
	return needPrograms(remedy, "ovsdb-server", "ovsdb-tool", "ovs-vsctl")
}

func (o ovs) start(ctx context.Context, dir string, core int) (*running, error) {
	r := &running{
		sockets:  [2]string{filepath.Join(dir, "p0.sock"), filepath.Join(dir, "p1.sock")},
		connects: true,
	}
	if err := o.bringUp(ctx, r, dir, core); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}

func (ovs) bringUp(ctx context.Context, r *running, dir string, core int) error {
	daemon, err := ovsDaemon()
	if err != nil {
		return err
	}
	env := []string{"OVS_RUNDIR=" + dir, "OVS_LOGDIR=" + dir, "OVS_DBDIR=" + dir, "OVS_SYSCONFDIR=" + dir}
	conf, sock := filepath.Join(dir, "conf.db"), filepath.Join(dir, "db.sock")
	if out, err := exec.CommandContext(ctx, "ovsdb-tool", "create", conf, ovsSchema).CombinedOutput(); err != nil {
		return fmt.Errorf("create the OVS database: %w: %s", err, out)
	}
	db, err := start(command{name: "ovsdb-server", dir: dir, core: core, env: env, argv: []string{
		"ovsdb-server", conf, "--remote=punix:" + sock, "--unixctl=" + filepath.Join(dir, "db.ctl"),
	}})
	if err != nil {
		return err
	}
	r.procs = append(r.procs, db)
	if err := db.waitFor(ctx, "the database socket", func() bool { return isSocket(sock) }); err != nil {
		return err
	}

	vsctl := func(args ...string) error {
		args = append([]string{"--db=unix:" + sock, "--timeout=30"}, args...)
		if out, err := exec.CommandContext(ctx, "ovs-vsctl", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("configure OVS: %w: %s", err, out)
		}
		return nil
	}
	mask := fmt.Sprintf("0x%x", uint64(1)<<core)
	if err := vsctl("--no-wait", "init"); err != nil {
		return err
	}
	err = vsctl("--no-wait", "set", "Open_vSwitch", ".",
		"other_config:dpdk-init=true",
		"other_config:pmd-cpu-mask="+mask, "other_config:dpdk-lcore-mask="+mask,
		fmt.Sprintf("other_config:dpdk-socket-mem=%d", targetMemoryMB),
		"other_config:per-port-memory=true",
		`other_config:dpdk-extra="--in-memory --single-file-segments --no-pci --file-prefix=vale-bench-ovs"`)
	if err != nil {
		return err
	}
	vs, err := start(command{name: "ovs-vswitchd", dir: dir, core: core, env: env, ownNet: true, argv: []string{
		daemon, "unix:" + sock, "--unixctl=" + filepath.Join(dir, "vs.ctl"),
	}})
	if err != nil {
		return err
	}
	r.procs = append(r.procs, vs)
	// Without --no-wait, ovs-vsctl returns once vswitchd has done it.
	port := func(i int) []string {
		name := fmt.Sprintf("p%d", i)
		return []string{
			"--", "add-port", "br0", name, "--", "set", "Interface", name, "type=dpdkvhostuserclient",
			"options:vhost-server-path=" + r.sockets[i],
		}
	}
	args := []string{"add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"}
	if err := vsctl(append(append(args, port(0)...), port(1)...)...); err != nil {
		return fmt.Errorf("%w\n%s", err, r.log())
	}
	return nil
}
