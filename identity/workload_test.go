package identity_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	workloadpb "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/identity"
)

// helperEnv makes the test binary a second process that asks one socket for its
// identity, and prints the answer.
const helperEnv = "EXEAT_TEST_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(helperEnv); socket != "" {
		fmt.Println(askOnce(socket))
		return
	}
	os.Exit(m.Run())
}

func askOnce(socket string) string {
	var go1 string
	fmt.Scanln(&go1) // the parent says when
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err.Error()
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), "workload.spiffe.io", "true")
	stream, err := workloadpb.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workloadpb.X509SVIDRequest{})
	if err != nil {
		return err.Error()
	}
	answer, err := stream.Recv()
	if err != nil {
		return status.Code(err).String()
	}
	return answer.GetSvids()[0].GetSpiffeId()
}

// serve runs the Workload API until the test ends.
func serve(t *testing.T, a *identity.Authority) string {
	t.Helper()
	socket := filepath.Join(folder(t), "w.sock")
	listener, err := identity.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.ServeWorkloadOn(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// register makes the test process itself a workload.
func register(t *testing.T, a *identity.Authority, path string) (remove func()) {
	t.Helper()
	remove, err := a.Register(identity.Entry{ID: mustID(t, path), PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	return remove
}

func dial(t *testing.T, socket string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func withHeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "workload.spiffe.io", "true")
}

func TestGoSPIFFEGetsAnSVIDThatRotates(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 2*time.Second)
	socket := serve(t, a)
	register(t, a, "/sidecar/1")
	source, err := workloadapi.NewX509Source(t.Context(), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	seen := map[string]bool{}
	for len(seen) < 3 {
		svid, err := source.GetX509SVID()
		if err != nil || svid.ID != mustID(t, "/sidecar/1") {
			t.Fatalf("got %v, %v", svid, err)
		}
		// Not by the source's own bundle: go-spiffe 2.8.1 reads that without its lock.
		if _, _, err := x509svid.Verify(svid.Certificates, a.Source(svid.ID, nil, nil)); err != nil {
			t.Fatal(err)
		}
		seen[svid.Certificates[0].SerialNumber.String()] = true
		select {
		case <-source.Updated():
		case <-t.Context().Done():
			t.Fatal("no rotation")
		}
	}
}

func TestTheFirstEntryIsTheDefault(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	socket := serve(t, a)
	register(t, a, "/sidecar/1")
	register(t, a, "/sidecar/2")
	for path, want := range map[string]identity.ID{"/sidecar/1": {}, "/sidecar/2": mustID(t, "/sidecar/2")} {
		w, err := identity.OpenWorkload(t.Context(), socket, want, quiet())
		if err != nil {
			t.Fatal(err)
		}
		if svid, _ := w.GetX509SVID(); svid.ID != mustID(t, path) {
			t.Errorf("got %v, want %s", svid.ID, path)
		}
		w.Close()
	}
}

func TestAnEntryMadeLaterIsFound(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	socket := serve(t, a)
	type result struct {
		w   *identity.Workload
		err error
	}
	got := make(chan result, 1)
	refused := make(chan struct{})
	go func() {
		_, err := workloadapi.FetchX509SVID(t.Context(), workloadapi.WithAddr("unix://"+socket))
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("before the entry: %v", err)
		}
		close(refused)
		w, err := identity.OpenWorkload(t.Context(), socket, identity.ID{}, quiet())
		got <- result{w, err}
	}()
	<-refused
	register(t, a, "/sidecar/1")
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	r.w.Close()
}

func TestWithoutAnIdentityTheReasonIsGiven(t *testing.T) {
	t.Parallel()
	socket := serve(t, open(t, folder(t), 0))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := identity.OpenWorkload(ctx, socket, identity.ID{}, quiet())
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no identity issued") {
		t.Errorf("got %v", err)
	}
}

func TestRemovingAnEntryEndsItsStream(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	socket := serve(t, a)
	remove := register(t, a, "/sidecar/1")
	stream, err := workloadpb.NewSpiffeWorkloadAPIClient(dial(t, socket)).FetchX509SVID(withHeader(t.Context()), &workloadpb.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	remove()
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
}

func TestTheWorkloadAPIAsTheStandardAsks(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	socket := serve(t, a)
	register(t, a, "/sidecar/1")
	api := workloadpb.NewSpiffeWorkloadAPIClient(dial(t, socket))

	bare, err := api.FetchX509SVID(t.Context(), &workloadpb.X509SVIDRequest{})
	if err == nil {
		_, err = bare.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("without the security header: %v", err)
	}
	if _, err := api.FetchJWTSVID(t.Context(), &workloadpb.JWTSVIDRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("without the security header, unary: %v", err)
	}
	if _, err := api.FetchJWTSVID(withHeader(t.Context()), &workloadpb.JWTSVIDRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("JWT-SVIDs: %v", err)
	}
	bundles, err := workloadapi.FetchX509Bundles(t.Context(), workloadapi.WithAddr("unix://"+socket))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := bundles.GetX509BundleForTrustDomain(mustID(t, "/x").TrustDomain()); err != nil || b.Empty() {
		t.Errorf("bundles: %v", err)
	}
}

// ask runs another process that asks for its identity, once released.
func ask(t *testing.T, socket string) (pid int, answer func() string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+socket)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := sync.OnceValue(func() error { in.Close(); return cmd.Wait() })
	t.Cleanup(func() { cmd.Process.Kill(); wait() })
	return cmd.Process.Pid, func() string {
		fmt.Fprintln(in, "go")
		if err := wait(); err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(out.String())
	}
}

func TestACallerIsKnownByItsProcessAlone(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	socket := serve(t, a)
	register(t, a, "/sidecar/1") // this process: its child has no part in that
	_, answer := ask(t, socket)
	if got := answer(); got != "PermissionDenied" {
		t.Errorf("a process without an entry got %s", got)
	}
	pid, answer := ask(t, socket)
	if _, err := a.Register(identity.Entry{ID: mustID(t, "/sidecar/2"), PID: pid}); err != nil {
		t.Fatal(err)
	}
	if got := answer(); got != "spiffe://example.org/sidecar/2" {
		t.Errorf("a process with an entry got %s", got)
	}
}

func TestAnEntryOutlivesTheAuthority(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := open(t, dir, 0)
	removed := register(t, first, "/sidecar/1")
	register(t, first, "/sidecar/2")
	removed()
	pid, _ := ask(t, "/nowhere")
	if _, err := first.Register(identity.Entry{ID: mustID(t, "/sidecar/3"), PID: pid}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "entries.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	socket := serve(t, open(t, dir, 0))
	svids, err := workloadapi.FetchX509SVIDs(t.Context(), workloadapi.WithAddr("unix://"+socket))
	if err != nil || len(svids) != 1 || svids[0].ID != mustID(t, "/sidecar/2") {
		t.Errorf("got %d SVIDs, %v", len(svids), err)
	}
	for name, text := range map[string]string{
		"another boot": strings.Replace(readFile(t, dir, "entries.json"), `"boot":"`, `"boot":"x`, 1),
		"no JSON":      "{",
	} {
		os.WriteFile(filepath.Join(dir, "entries.json"), []byte(text), 0o600)
		_, err := workloadapi.FetchX509SVIDs(t.Context(), workloadapi.WithAddr("unix://"+serve(t, open(t, dir, 0))))
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func readFile(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestASocketIsPrivateAndServedOnce(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	path := filepath.Join(dir, "s.sock")
	listener, err := identity.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	go listener.Accept()
	if _, err := identity.ListenUnix(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket in use: %v", err)
	}
	if _, err := identity.ListenUnix(filepath.Join(dir, strings.Repeat("x", 120))); err == nil {
		t.Error("a path too long for a socket was taken")
	}
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	if _, err := identity.ListenUnix(file); err == nil {
		t.Error("a file was replaced by a socket")
	}
	os.Chmod(dir, 0o777)
	if _, err := identity.ListenUnix(filepath.Join(dir, "t.sock")); err == nil {
		t.Error("a folder that others can write to was taken")
	}
}

func TestASocketLeftBehindIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(folder(t), "s.sock")
	listener, err := identity.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	keepFile(listener)
	listener.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal("the test needs a left-over socket")
	}
	again, err := identity.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
