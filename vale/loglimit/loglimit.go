// Package loglimit keeps a guest from filling the host's log. Much that a link
// logs happens when its peer wants it to: a connection, a refusal, a request
// that nobody knows. Each may be had thousands of times a second, and then the
// log shows nothing else, or nothing at all where a log daemon limits the whole
// program.
//
// A limited logger passes a burst of records, and then one now and again, which
// says how many were suppressed before it.
package loglimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	burst = 60
	every = time.Second // one more record
)

// New limits what goes to log. The loggers derived from the result share its
// limit.
func New(log *slog.Logger) *slog.Logger {
	return slog.New(handler{log.Handler(), &bucket{tokens: burst}})
}

// bucket counts the records that may pass.
type bucket struct {
	mu         sync.Mutex
	tokens     int
	filled     time.Time // when a token was last added, or due
	suppressed uint64
}

// take says whether a record may pass, and how many before it did not.
func (b *bucket) take(now time.Time) (suppressed uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := now.Sub(b.filled) / every; n > 0 {
		if b.tokens += int(min(n, burst)); b.tokens >= burst {
			b.tokens, b.filled = burst, now
		} else {
			b.filled = b.filled.Add(n * every)
		}
	}
	if b.tokens == 0 {
		b.suppressed++
		return 0, false
	}
	b.tokens--
	suppressed, b.suppressed = b.suppressed, 0
	return suppressed, true
}

type handler struct {
	slog.Handler
	bucket *bucket
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	suppressed, ok := h.bucket.take(r.Time)
	if !ok {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64("suppressed", suppressed))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.bucket}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.bucket}
}
