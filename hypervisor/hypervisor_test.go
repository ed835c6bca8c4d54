package hypervisor

import (
	"net"
	"reflect"
	"testing"
)

func TestCloneSharesNothing(t *testing.T) {
	vm := VM{Name: "g", NICs: []NIC{{Port: "vale-1:a", MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}}}}
	c := vm.Clone()
	if !reflect.DeepEqual(vm, c) {
		t.Fatalf("clone differs: %+v, want %+v", c, vm)
	}
	c.NICs[0].MAC[5] = 9
	c.NICs[0].Port = "vale-1:b"
	if vm.NICs[0].MAC[5] != 3 || vm.NICs[0].Port != "vale-1:a" {
		t.Errorf("changing the clone changed the original: %+v", vm)
	}
}
