package server_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

// The document that is checked in is the one that is served, so that what
// changes for a client shows in review.
func TestTheCheckedInDocumentIsTheServedOne(t *testing.T) {
	t.Parallel()
	const name = "../docs/openapi.json"
	w := newWorld(t)
	var served bytes.Buffer
	w.Must(json.Indent(&served, w.do(w.Nobody(), "GET", w.URL+"/openapi.json", "").body, "", " "))
	served.WriteByte('\n')
	if *update {
		w.Must(os.WriteFile(name, served.Bytes(), 0o644))
	}
	kept, err := os.ReadFile(name)
	w.Must(err)
	if !bytes.Equal(kept, served.Bytes()) {
		t.Errorf("%s is not what is served; write it anew with: go test ./server -run CheckedIn -update", name)
	}
}
