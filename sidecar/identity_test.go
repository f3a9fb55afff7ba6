package sidecar_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// identitySocketRefuses asks as the process that serves the socket, so as the
// same user, but not as its Envoy.
func identitySocketRefuses(t *testing.T, runDir string) {
	conn, err := grpc.NewClient("unix://"+filepath.Join(runDir, "identity.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = secretv3.NewSecretDiscoveryServiceClient(conn).FetchSecrets(t.Context(), &discoveryv3.DiscoveryRequest{ResourceNames: []string{"default"}})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v", err)
	}
}

// envoyPID finds the Envoy that runs with a run folder's bootstrap.
func envoyPID(t *testing.T, runDir string) int {
	t.Helper()
	pid := findEnvoy(runDir)
	if pid == 0 {
		t.Fatal("no Envoy runs")
	}
	return pid
}

func findEnvoy(runDir string) int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err == nil && strings.Contains(string(line), "\x00"+filepath.Join(runDir, "bootstrap.json")+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			return pid
		}
	}
	return 0
}
