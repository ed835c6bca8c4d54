// Package e2e has no code of its own: its tests run the real vale-vmnet
// program under real QEMU with real Linux guests, and ask the guests what they
// saw.
//
//	go test ./deploy/e2e                   everything (about two minutes with software emulation)
//	go test ./deploy/e2e -run Scripts      the command line alone, no guests
//	VALE_E2E_BIN=/usr/bin/vale-vmnet go test ./deploy/e2e   an installed program
//
// deploy/deps.sh demo brings what the tests need. Without it they are skipped
// and name what is missing; with CI=true they fail.
package e2e
