package main

import (
	"context"
	"errors"
)

const tcpReference = "bridge"

var tcpTargets = []string{"bridge", "vale-tcp"}

func tcpRounds(ctx context.Context, o options) ([]record, error) {
	return nil, errors.New("not built")
}
