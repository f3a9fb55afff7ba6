package catalog

import "testing"

func TestClosest(t *testing.T) {
	t.Parallel()
	names := []string{"hosts", "port", "addresses", "protocol", "tls", "headers", "clientEnv"}
	for word, want := range map[string]string{
		"host": "hosts", "Hosts": "hosts", "prot": "port", "addreses": "addresses",
		"CLIENTENV": "clientEnv", "header": "headers", "tsl": "tls", "": "", "x": "", "timeout": "", "body": "",
	} {
		if got := closest(word, names); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
