package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// agent is vale-vmnet with one forwarding worker and two declared ports.
type agent struct{ program string }

const agentConfig = `workers: 1
cpus: [%d]
ports:
  - vale-1:a
  - vale-1:b
`

func (agent) name() string { return "vale" }

func (agent) missing() string { return needPrograms("package util-linux", "taskset") }

func (a agent) start(ctx context.Context, dir string, core int) (*running, error) {
	config := filepath.Join(dir, "vale-vmnet.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, agentConfig, core), 0o600); err != nil {
		return nil, fmt.Errorf("write the agent's configuration: %w", err)
	}
	p, err := start(command{name: "agent", dir: dir, core: core, argv: []string{
		a.program, "agent", "--run-dir", dir, "--config", config,
	}})
	if err != nil {
		return nil, err
	}
	r := &running{procs: []*process{p}}
	for i, port := range []string{"a", "b"} {
		r.sockets[i] = filepath.Join(dir, "vale-1:"+port+".sock")
	}
	if err := p.waitFor(ctx, "two listening sockets", func() bool { return isSocket(r.sockets[0]) && isSocket(r.sockets[1]) }); err != nil {
		r.stop()
		return nil, err
	}
	return r, nil
}
