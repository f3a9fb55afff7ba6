package sidecar

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoEnvoy says that there is no Envoy to run, and what to do about it.
var ErrNoEnvoy = errors.New("sidecar: no Envoy found: run `make tools` in the repository, or set EXEAT_ENVOY to an Envoy 1.40 binary")

// FindEnvoy gives the path of the Envoy binary: the one asked for, else that of
// EXEAT_ENVOY, else the one beside this program, else .tools/envoy in a folder
// above this program or the working folder, else the one on PATH. The first two
// are not guesses, so a wrong one is an error.
func FindEnvoy(asked string) (string, error) {
	for _, path := range []string{asked, os.Getenv("EXEAT_ENVOY")} {
		if path != "" {
			return executable(path)
		}
	}
	for _, path := range guesses() {
		if found, err := executable(path); err == nil {
			return found, nil
		}
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return filepath.Abs(path)
	}
	return "", ErrNoEnvoy
}

func executable(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode().Perm()&0o111 == 0 {
		return "", ErrNoEnvoy
	}
	return filepath.Abs(path)
}

func guesses() []string {
	var out []string
	var starts []string
	if self, err := os.Executable(); err == nil {
		out = append(out, filepath.Join(filepath.Dir(self), "envoy"))
		starts = append(starts, filepath.Dir(self))
	}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	for _, dir := range starts {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			out = append(out, filepath.Join(dir, ".tools", "envoy"))
		}
	}
	return out
}
