package xds

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// ticking is an upstream whose /stream never ends by itself.
func ticking(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != "/stream" {
		echo(w, req)
		return
	}
	w.Header().Set("content-type", "text/event-stream")
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		fmt.Fprint(w, "data: x\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-req.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// stream is an open response; done is closed when it has ended.
type stream struct{ done chan struct{} }

func openStream(t *testing.T, c *http.Client, url string) *stream {
	t.Helper()
	c.Timeout = 0
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		t.Fatalf("stream: %s", resp.Status)
	}
	br := bufio.NewReader(resp.Body)
	if _, err := br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	s := &stream{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer resp.Body.Close()
		io.Copy(io.Discard, br)
	}()
	t.Cleanup(func() { resp.Body.Close() })
	return s
}

func (s *stream) open() bool {
	select {
	case <-s.done:
		return false
	default:
		return true
	}
}

// ends waits for the stream's end, and fails when it does not come.
func (s *stream) ends(t *testing.T) {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the stream is still open")
	}
}

func TestAGrantedHostIsReachedAndNothingElse(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(echo), "api.test", "b.test")
	e := r.startEnvoy("")
	rm := room("t_1", tls443("api", "api.test", addr, ca))
	r.awaitReady(r.set(rm))
	for _, h2 := range []bool{false, true} {
		c := e.client(rm, h2)
		if code, body := fetch(t, c, "https://api.test/v1/x?y=1"); code != 200 || !strings.Contains(body, "GET api.test /v1/x?y=1") ||
			!strings.Contains(body, "authorization: Bearer minted") {
			t.Fatalf("h2=%v: %d %s", h2, code, body)
		}
		if code, body := fetch(t, c, "https://b.test/"); code != 403 || body != denialBody {
			t.Fatalf("h2=%v: a host without a grant: %d %s", h2, code, body)
		}
		ext := r.authz.last().GetAttributes().GetContextExtensions()
		if ext[policy.ExtensionTask] != "t_1" || ext[policy.ExtensionAgent] != testAgent || ext[policy.ExtensionDestination] != policy.DestinationNone {
			t.Fatalf("context extensions %v", ext)
		}
	}
}

func TestAfterReadyTheVeryNextCallSucceeds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(echo), "api.test", "b.test")
	e := r.startEnvoy("")
	var rooms []Room
	for i := range 20 {
		rm := room(fmt.Sprintf("t_%02d", i), tls443("api", "api.test", addr, ca))
		rooms = append(rooms, rm)
		r.awaitReady(r.set(rooms...))
		if code, body := fetch(t, e.client(rm, i%2 == 0), "https://api.test/"); code != 200 {
			t.Fatalf("room %d: %d %s", i, code, body)
		}
		// A second grant, in a room that is in use.
		rm = room(fmt.Sprintf("t_%02d", i), tls443("api", "api.test", addr, ca), tls443("b", "b.test", addr, ca))
		rooms[i] = rm
		r.awaitReady(r.set(rooms...))
		if code, body := fetch(t, e.client(rm, i%2 == 0), "https://b.test/"); code != 200 {
			t.Fatalf("room %d, second grant: %d %s", i, code, body)
		}
	}
}

func TestEndingAGrantCutsItsStreamsAndNoOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(ticking), "api.test", "b.test")
	e := r.startEnvoy("")
	api, b := tls443("api", "api.test", addr, ca), tls443("b", "b.test", addr, ca)
	rm, other := room("t_1", api, b), room("t_2", api)
	r.awaitReady(r.set(rm, other))
	cut1, cut2 := openStream(t, e.client(rm, false), "https://api.test/stream"), openStream(t, e.client(rm, true), "https://api.test/stream")
	stays := openStream(t, e.client(rm, true), "https://b.test/stream")
	elsewhere := openStream(t, e.client(other, true), "https://api.test/stream")

	r.awaitCut(r.set(room("t_1", b), other))
	cut1.ends(t)
	cut2.ends(t)
	if !stays.open() || !elsewhere.open() {
		t.Fatal("a stream of another destination or task was cut")
	}
	if code, body := fetch(t, e.client(rm, false), "https://api.test/"); code != 403 || body != denialBody {
		t.Fatalf("after the end: %d %s", code, body)
	}
}

func TestACutWithAnotherGrantThereEndsStreamsAndLetsNewCallsThrough(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(ticking), "api.test", "b.test")
	e := r.startEnvoy("")
	rm := room("t_1", tls443("api", "api.test", addr, ca), tls443("b", "b.test", addr, ca))
	r.awaitReady(r.set(rm))
	for epoch := range int64(5) {
		cut := openStream(t, e.client(rm, epoch%2 == 0), "https://api.test/stream")
		stays := openStream(t, e.client(rm, true), "https://b.test/stream")
		again := room("t_1", tls443("api", "api.test", addr, ca), tls443("b", "b.test", addr, ca))
		again.Chains[0].Epoch = 100 + epoch
		revision := r.set(again)
		r.awaitCut(revision)
		cut.ends(t)
		r.awaitReady(revision)
		if !stays.open() {
			t.Fatal("another destination's stream was cut")
		}
		if code, body := fetch(t, e.client(rm, false), "https://api.test/"); code != 200 {
			t.Fatalf("after the cut: %d %s", code, body)
		}
		// Whoever decides on the new chain must know what the old one was cut for.
		if cut := r.authz.last().GetAttributes().GetContextExtensions()[policy.ExtensionCut]; cut != strconv.FormatInt(100+epoch, 10) {
			t.Fatalf("the check says that the chain was cut at %q", cut)
		}
	}
}

func TestEndingATaskClosesItsRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(ticking), "api.test")
	e := r.startEnvoy("")
	api := tls443("api", "api.test", addr, ca)
	rm, other := room("t_1", api), room("t_2", api)
	r.awaitReady(r.set(rm, other))
	c := e.client(rm, false)
	cut, stays := openStream(t, e.client(rm, true), "https://api.test/stream"), openStream(t, e.client(other, true), "https://api.test/stream")

	revision := r.set(other)
	r.awaitCut(revision)
	cut.ends(t)
	if !stays.open() {
		t.Fatal("another task's stream was cut")
	}
	if _, err := c.Get("https://api.test/"); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Fatalf("want 407, got %v", err)
	}
	if code, body := fetch(t, c, "http://api.test/"); code != 407 || !strings.Contains(body, `"reason":"unknown_task"`) {
		t.Fatalf("plain: %d %s", code, body)
	}
	r.awaitReady(r.set())
	e.awaitConfig("room/", false)
	e.awaitConfig("up/api/", false)
}

// awaitConfig waits until Envoy's configuration holds text, or no longer does.
func (e *realEnvoy) awaitConfig(text string, want bool) {
	e.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(string(e.get("/clusters")), text) == want {
			return
		}
	}
	e.t.Fatalf("clusters hold %q: %v, want %v", text, !want, want)
}

func TestAnExpiringGrantEndsItsStream(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(ticking), "api.test")
	e := r.startEnvoy("")
	rm := room("t_1", tls443("api", "api.test", addr, ca))
	r.awaitReady(r.set(rm))
	r.authz.set(answer("300m"))
	for _, h2 := range []bool{false, true} {
		openStream(t, e.client(rm, h2), "https://api.test/stream").ends(t)
	}
	for _, limit := range []string{"100000000m", "-5m", "1.5S", "10", "5H", ""} {
		r.authz.set(answer(limit))
		if code, body := fetch(t, e.client(rm, true), "https://api.test/stream"); code != 503 || !strings.Contains(body, `"reason":"internal"`) {
			t.Fatalf("limit %q: %d %s", limit, code, body)
		}
	}
}

func TestARestartOfTheControlPlaneChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(ticking), "api.test", "b.test")
	e := r.startEnvoy("")
	rm := room("t_1", tls443("api", "api.test", addr, ca), tls443("b", "b.test", addr, ca))
	r.awaitReady(r.set(rm, room("t_2")))
	c := e.client(rm, true)
	s := openStream(t, e.client(rm, true), "https://api.test/stream")
	before := e.counters("listener_manager.listener_modified", "listener_manager.listener_added", "cluster_manager.cluster_modified",
		"cluster_manager.cluster_added", "cluster_manager.cluster_removed")

	r.grpc.Stop()
	r.acks.await(t, testInstance, func(_ store.InstanceAck, ok bool) bool { return !ok })
	next := newRigLike(r)
	next.awaitReady(next.revision)
	next.awaitCut(next.revision)

	after := e.counters("listener_manager.listener_modified", "listener_manager.listener_added", "cluster_manager.cluster_modified",
		"cluster_manager.cluster_added", "cluster_manager.cluster_removed")
	if before != after {
		t.Fatalf("configuration changed:\n%s\n%s", before, after)
	}
	if sent := next.acks.accepted(); sent != 0 {
		t.Fatalf("%d pushes were recorded", sent)
	}
	if !s.open() {
		t.Fatal("the stream was cut")
	}
	if code, _ := fetch(t, c, "https://api.test/"); code != 200 {
		t.Fatalf("after the restart: %d", code)
	}
	// And what ended while nobody was there is cut now.
	next.grpc.Stop()
	next.acks.await(t, testInstance, func(_ store.InstanceAck, ok bool) bool { return !ok })
	next.mu.Lock()
	next.models[testInstance] = Sidecar{Instance: testInstance, Agent: testAgent, Rooms: []Room{room("t_1", tls443("b", "b.test", addr, ca))}}
	next.revision++
	next.mu.Unlock()
	last := newRigLike(next)
	last.awaitCut(last.revision)
	s.ends(t)
	last.awaitReady(last.revision)
}

func TestOurAPIIsReachedThroughARoomThatSaysForWhichTask(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	api := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(api.Close)
	plain := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(plain.Close)
	e := r.startEnvoy(api.Listener.Addr().String())
	rm := room("t_1", policy.Destination{Name: "plain", Hosts: []string{"plain.test"}, Port: 80, Plain: true, Addresses: []string{plain.Listener.Addr().String()}})
	r.awaitReady(r.set(rm))
	c := e.client(rm, false)

	req, _ := http.NewRequest("GET", "http://exeat.internal/v1/tasks", nil)
	req.Header.Set("Exeat-Task", "t_forged")
	req.Header.Set("Authorization", "Bearer forged")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(body), "exeat-task: t_1\n") || strings.Contains(string(body), "forged") ||
		strings.Contains(string(body), "proxy-authorization") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if r.authz.count() != 0 {
		t.Fatal("the API's calls were sent to a decision")
	}
	if code, body := fetch(t, c, "http://plain.test/p"); code != 200 || !strings.Contains(body, "GET plain.test /p") {
		t.Fatalf("plain: %d %s", code, body)
	}
	ext := r.authz.last().GetAttributes().GetContextExtensions()
	if ext[policy.ExtensionDestination] != policy.DestinationPlain {
		t.Fatalf("context extensions %v", ext)
	}
	r.authz.set(func(_ *checkRequest) *checkResponse { return deny() })
	if code, body := fetch(t, c, "http://other.test/"); code != 403 || body != denialBody {
		t.Fatalf("another host in clear: %d %s", code, body)
	}
}

func TestWhatARealEnvoyRefusesIsDeniedAndShown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(echo), "api.test", "b.test")
	e := r.startEnvoy("")
	good, bad := tls443("api", "api.test", addr, ca), tls443("b", "b.test", addr, "not a certificate")
	rm := room("t_1", good)
	r.awaitReady(r.set(rm))
	revision := r.set(room("t_1", good, bad))
	ack := r.acks.await(t, testInstance, func(a store.InstanceAck, _ bool) bool { return a.Rejected != "" && a.Cut >= revision })
	if !strings.HasPrefix(ack.Rejected, "cluster up/b/b.test: ") || ack.Ready >= revision || ack.Version == "" {
		t.Fatalf("%+v", ack)
	}
	if code, body := fetch(t, e.client(rm, true), "https://api.test/"); code != 200 {
		t.Fatalf("the other destination: %d %s", code, body)
	}
	if code, body := fetch(t, e.client(rm, true), "https://b.test/"); code != 403 || body != denialBody {
		t.Fatalf("the refused one: %d %s", code, body)
	}
	bad.CAPEM = ca
	r.awaitReady(r.set(room("t_1", good, bad)))
	if code, body := fetch(t, e.client(rm, true), "https://b.test/"); code != 200 {
		t.Fatalf("once it is right: %d %s", code, body)
	}
	r.acks.await(t, testInstance, func(a store.InstanceAck, _ bool) bool { return a.Rejected == "" })
}

func TestNamesThatLeadInsideAreNotResolved(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(echo), "localhost")
	e := r.startEnvoy("")
	// localhost resolves to a loopback address without any DNS server.
	port, err := strconv.Atoi(portOf(addr))
	if err != nil {
		t.Fatal(err)
	}
	d := policy.Destination{Name: "inside", Hosts: []string{"localhost"}, Port: uint16(port), CAPEM: ca}
	rm := room("t_1", d)
	r.awaitReady(r.set(rm))
	url := "https://localhost:" + portOf(addr) + "/"
	if code, body := fetch(t, e.client(rm, false), url); code != 503 {
		t.Fatalf("%d %s", code, body)
	}
	d.Addresses = []string{addr}
	r.awaitReady(r.set(room("t_1", d)))
	if code, body := fetch(t, e.client(rm, false), url); code != 200 {
		t.Fatalf("with an address named in the catalog: %d %s", code, body)
	}
}
