package qemu

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// defaultRAM is the RAM of a guest without -m: the default of nearly all
// machines. pseries is the one of note that has more.
const defaultRAM = 128 << 20

// ramAlign is what QEMU rounds the size of RAM up to (vl.c, set_memory_options).
const ramAlign = 8192

// parseSize reads a size the way QEMU does: a number, perhaps with a fraction,
// and a suffix B, K, M, G, T, P or E in either case. def is the suffix of a
// plain number.
func parseSize(s string, def byte) (uint64, error) {
	if s == "" {
		return 0, errors.New("a size is missing")
	}
	unit, num := def, s
	hex := len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X")
	if last := s[len(s)-1]; (last < '0' || last > '9') && !hex {
		unit, num = last, s[:len(s)-1]
	}
	shift := strings.IndexByte("BKMGTPE", unit&^0x20)
	if shift < 0 {
		return 0, fmt.Errorf("size %q has an unknown suffix", s)
	}
	if hex {
		n, err := strconv.ParseUint(num[2:], 16, 64)
		if err != nil {
			return 0, fmt.Errorf("size %q is no number", s)
		}
		num = strconv.FormatUint(n, 10)
	}
	if num == "" || strings.Trim(num, "0123456789.") != "" || len(num) > 40 {
		return 0, fmt.Errorf("size %q is no number", s)
	}
	r, ok := new(big.Rat).SetString(num)
	if !ok {
		return 0, fmt.Errorf("size %q is no number", s)
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Lsh(big.NewInt(1), uint(10*shift))))
	n := new(big.Int).Quo(r.Num(), r.Denom())
	if !n.IsUint64() || n.Uint64() > math.MaxInt64 {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return n.Uint64(), nil
}

// formatSize writes a size with the largest suffix that divides it.
func formatSize(n uint64) string {
	for _, u := range []struct {
		shift  uint
		suffix string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if n != 0 && n&(1<<u.shift-1) == 0 {
			return strconv.FormatUint(n>>u.shift, 10) + u.suffix
		}
	}
	return strconv.FormatUint(n, 10)
}
