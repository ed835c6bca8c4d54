package stream_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

func benchSizes(b *testing.B, run func(b *testing.B, size int)) {
	for _, size := range []int{64, 1500, 65535} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			run(b, size)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpps")
		})
	}
}

// BenchmarkIn measures frames from a peer into the switch, written by the peer
// up to 64 at a time and dropped there.
func BenchmarkIn(b *testing.B) {
	benchSizes(b, func(b *testing.B, size int) {
		port, path := newPort(b, "vale-1:a"), socketPath(b)
		e := listen(b, path, port)
		defer e.Close()
		p := dial(b, path)
		n := max(1, min(64, 200_000/size))
		var wire []byte
		for range n {
			wire = append(binary.BigEndian.AppendUint32(wire, uint32(size)), make([]byte, size)...)
		}
		b.ResetTimer()
		for k := 0; k < b.N; k += n {
			if _, err := p.conn.Write(wire[:min(n, b.N-k)*(4+size)]); err != nil {
				b.Fatal(err)
			}
		}
		until(b, "all frames are in", func() bool { return port.Counters().InFrames == uint64(b.N) })
	})
}

// BenchmarkOut measures frames from the switch to a peer that does nothing but
// read. What its ring has no room for is sent again.
func BenchmarkOut(b *testing.B) {
	benchSizes(b, func(b *testing.B, size int) {
		f := vale.New(vale.Config{})
		defer f.Close()
		port, path := openPort(b, f, "vale-1:a"), socketPath(b)
		e := listen(b, path, port)
		defer e.Close()
		p := dial(b, path)
		until(b, "the peer is served", ready(port))
		got := make(chan int64)
		go func() {
			n, _ := io.CopyN(io.Discard, p.conn, int64(b.N)*int64(size+4))
			got <- n
		}()
		c, err := openPort(b, f, "vale-1:b").Connect(vale.ClientConfig{})
		if err != nil {
			b.Fatal(err)
		}
		data := make([]byte, size)
		batch := vale.NewBatch()
		b.ResetTimer()
		for sent := uint64(0); sent < uint64(b.N); sent = port.Counters().OutFrames {
			batch.Reset()
			for range min(64, uint64(b.N)-sent) {
				batch.Add(frame.VnetHdr{}, data)
			}
			if err := c.Send(batch); err != nil {
				b.Fatal(err)
			}
		}
		if n, want := <-got, int64(b.N)*int64(size+4); n != want {
			b.Fatalf("read %d bytes, want %d", n, want)
		}
	})
}
