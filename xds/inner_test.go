package xds

import (
	"net/netip"
	"testing"
)

func TestInnerAddresses(t *testing.T) {
	t.Parallel()
	within := func(text string) bool {
		a := netip.MustParseAddr(text)
		for _, r := range inner {
			if netip.MustParsePrefix(r).Contains(a) {
				return true
			}
		}
		return false
	}
	for _, a := range []string{
		"127.0.0.1", "10.1.2.3", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.100.100.200", "0.0.0.0", "224.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "fe80::1", "fd00:ec2::254", "ff02::1", "2002:7f00:1::", "2001:0:7f00:1::", "fec0::1",
		"64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::172.16.0.1", "64:ff9b::192.168.1.1", "64:ff9b::169.254.169.254", "64:ff9b::100.64.0.1", "64:ff9b:1::1",
	} {
		if !within(a) {
			t.Errorf("%s may be dialled", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "140.82.112.3", "192.0.1.1", "172.32.0.1", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::1.1.1.1"} {
		if within(a) {
			t.Errorf("%s may not be dialled", a)
		}
	}
}
