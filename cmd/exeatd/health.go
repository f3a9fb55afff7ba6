package main

import (
	"fmt"
	"net/http"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// check says whether one part works; the note is shown either way.
type check func() (note string, err error)

// health serves /livez, /readyz and /metrics (Kubernetes API server's names
// and forms: 200 ok, ?verbose lists each check).
type health struct {
	checks   map[string]check
	gatherer prometheus.Gatherer
}

func (h health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.gatherer, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	return mux
}

func (h health) ready(w http.ResponseWriter, r *http.Request) {
	names := make([]string, 0, len(h.checks))
	for name := range h.checks {
		names = append(names, name)
	}
	sort.Strings(names)
	var text strings.Builder
	failed := false
	for _, name := range names {
		note, err := h.checks[name]()
		if err != nil {
			failed = true
			fmt.Fprintf(&text, "[-]%s failed: %v\n", name, err)
			continue
		}
		fmt.Fprintf(&text, "[+]%s ok%s\n", name, note)
	}
	if failed {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "%snot ready\n", text.String())
		return
	}
	if _, verbose := r.URL.Query()["verbose"]; verbose {
		fmt.Fprint(w, text.String())
	}
	fmt.Fprintln(w, "ok")
}

// newServer is an http.Server with the bounds that every listener of ours has.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10}
}
