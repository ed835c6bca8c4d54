package vale_test

import (
	"context"
	"fmt"
	"log"

	"github.com/vale-vmnet/vale-vmnet/vale"
	"github.com/vale-vmnet/vale-vmnet/vale/frame"
)

// Two programs, here two ports of one, talk over a switch.
func Example() {
	fabric := vale.New(vale.Config{})
	defer fabric.Close()

	connect := func(s string) *vale.Client {
		name, err := vale.ParseName(s)
		if err != nil {
			log.Fatal(err)
		}
		port, _, err := fabric.Open(name)
		if err != nil {
			log.Fatal(err)
		}
		client, err := port.Connect(vale.ClientConfig{})
		if err != nil {
			log.Fatal(err)
		}
		return client
	}
	a := connect("vale-1:a")
	defer a.Close()
	b := connect("vale1:b") // the other spelling of the same switch
	defer b.Close()

	// A batch is reused; it holds the frames' memory only until Send returns.
	hello := append([]byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // to everybody
		0x02, 0, 0, 0, 0, 0x01, // from a locally administered address
		0x88, 0xb5, // EtherType for experiments
	}, "hello, switch"...)
	batch := vale.NewBatch()
	batch.Add(frame.VnetHdr{}, hello)
	if err := a.Send(batch); err != nil {
		log.Fatal(err)
	}

	// Received frames lie in the client's ring until the next Recv.
	frames, err := b.Recv(context.Background(), 16)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range frames {
		fmt.Printf("%s received %q\n", b.Port().Name(), f.Data[14:])
	}
	for _, e := range fabric.Switch("vale-1").FDB() {
		fmt.Printf("%s is at %s\n", e.MAC, e.Port)
	}
	// Output:
	// vale-1:b received "hello, switch"
	// 02:00:00:00:00:01 is at vale-1:a
}
