package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Endpoints says where a running exeatd is. `exeatd dev` writes it to
// DATA/endpoints.json once it serves.
type Endpoints struct {
	API         string `json:"api"`    // URL
	Issuer      string `json:"issuer"` // URL, of discovery and JWKS
	Metrics     string `json:"metrics"`
	GRPC        string `json:"grpc"`    // host:port
	CAFile      string `json:"ca_file"` // PEM, verifies the URLs above
	TrustDomain string `json:"trust_domain"`
	// WorkloadSocket serves the SPIFFE Workload API, LocalSocket the API for
	// the operator of this machine.
	WorkloadSocket string `json:"workload_socket"`
	LocalSocket    string `json:"local_socket"`
}

const endpointsFile = "endpoints.json"

// DataDir is where `exeatd dev` keeps its data unless told otherwise:
// EXEAT_DATA, else exeat under XDG_STATE_HOME (XDG Base Directory
// Specification), else under ~/.local/state.
func DataDir() string {
	if dir := os.Getenv("EXEAT_DATA"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "exeat")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ".exeat"
	}
	return filepath.Join(home, ".local", "state", "exeat")
}

// ReadEndpoints reads dir's endpoints. Its error says what to do when no
// exeatd has served from dir.
func ReadEndpoints(dir string) (Endpoints, error) {
	var e Endpoints
	name := filepath.Join(dir, endpointsFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return e, fmt.Errorf("no exeatd serves from %s: start `exeatd dev --data %s`, or name its folder with --data or EXEAT_DATA", dir, dir)
	}
	if err != nil {
		return e, fmt.Errorf("read endpoints: %w", err)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("%s: %w; restart exeatd to write it anew", name, err)
	}
	return e, nil
}

// Write puts e in dir, whole or not at all.
func (e Endpoints) Write(dir string) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+endpointsFile)
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, endpointsFile))
}

// RemoveEndpoints takes the file away: nothing serves from dir any more, or
// not yet. That it is not there is no error.
func RemoveEndpoints(dir string) error {
	if err := os.Remove(filepath.Join(dir, endpointsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
