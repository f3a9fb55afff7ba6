package catalog

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const static = `apiVersion: exeat.dev/v1alpha1
kind: Provider
metadata: {name: p}
spec:
  static:
    header:
      name: Authorization
      value: {file: token}
`

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	const at = "p.yaml:8: spec.static.header.value.file: "
	for name, test := range map[string]struct {
		make func(t *testing.T, secrets string)
		want string
	}{
		"our own":       {func(t *testing.T, s string) { write(t, s, "token", "x", 0o600) }, ""},
		"read-only":     {func(t *testing.T, s string) { write(t, s, "token", "x", 0o400) }, ""},
		"missing":       {func(*testing.T, string) {}, at + "the file does not exist"},
		"empty":         {func(t *testing.T, s string) { write(t, s, "token", "", 0o600) }, at + "the file is empty"},
		"large":         {func(t *testing.T, s string) { write(t, s, "token", strings.Repeat("x", maxSecretBytes+1), 0o600) }, at + "the file is too large for a secret: at most 65536 bytes"},
		"for the group": {func(t *testing.T, s string) { write(t, s, "token", "x", 0o640) }, at + "the file is open to others than its owner: chmod 600 it"},
		"for the world": {func(t *testing.T, s string) { write(t, s, "token", "x", 0o604) }, at + "the file is open to others than its owner: chmod 600 it"},
		"a folder":      {func(t *testing.T, s string) { write(t, s, "token/x", "x", 0o600) }, at + "the file is not a regular file"},
		"a link out": {func(t *testing.T, s string) {
			write(t, filepath.Dir(s), "token", "x", 0o600)
			link(t, "../token", filepath.Join(s, "token"))
		}, at + "the file leads out of its folder: a symbolic link must stay inside"},
		"no secrets root": {func(t *testing.T, s string) {
			if err := os.Remove(s); err != nil {
				t.Fatal(err)
			}
		}, at + "the secrets root does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, secrets := t.TempDir(), filepath.Join(t.TempDir(), "secrets")
			if err := os.Mkdir(secrets, 0o700); err != nil {
				t.Fatal(err)
			}
			write(t, dir, "p.yaml", static, 0o644)
			test.make(t, secrets)
			if got := Check(dir, secrets).Error(); got != test.want {
				t.Errorf("\n got: %s\nwant: %s", got, test.want)
			}
		})
	}
}

// info is a file as somebody's.
type info struct {
	mode fs.FileMode
	uid  uint32
}

func (i info) Name() string       { return "" }
func (i info) Size() int64        { return 1 }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return &syscall.Stat_t{Uid: i.uid} }

func TestTooOpen(t *testing.T) {
	t.Parallel()
	us := uint32(os.Geteuid())
	for name, test := range map[string]struct {
		info info
		want bool
	}{
		"ours, ours alone":                  {info{0o600, us}, false},
		"ours, the group reads":             {info{0o640, us}, true},
		"ours, the world reads":             {info{0o604, us}, true},
		"another's, the group reads: mount": {info{0o440, us + 1}, false},
		"another's, the group writes":       {info{0o460, us + 1}, true},
		"another's, the world reads":        {info{0o444, us + 1}, true},
	} {
		if got := tooOpen(test.info); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile("testdata/good/certs/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	const key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"
	for name, test := range map[string]struct{ text, want, wrong string }{
		"one":                 {string(good), string(good), ""},
		"two":                 {string(good) + string(good), string(good) + string(good), ""},
		"text around it":      {"# our CA\n" + string(good) + "the end", string(good), ""},
		"nothing":             {"", "", "the file holds no certificate: want PEM blocks that begin with BEGIN CERTIFICATE"},
		"a key beside it":     {string(good) + key, "", "the file holds something besides certificates: keep keys elsewhere"},
		"a broken one":        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", "certificate 1 of the file cannot be parsed"},
		"one cut in its text": {string(good) + string(good[:200]), "", "the file holds a block that is cut or cannot be read"},
	} {
		text, wrong := onlyCertificates([]byte(test.text))
		if text != test.want || wrong != test.wrong {
			t.Errorf("%s: got %q %q", name, text, wrong)
		}
	}
}
