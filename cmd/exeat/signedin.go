package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/exeat-dev/exeat/client"
)

// account is what exeat login keeps, for this user alone.
type account struct {
	Issuer   string    `json:"issuer"`
	ClientID string    `json:"client_id"`
	Name     string    `json:"name"`
	Expires  time.Time `json:"expires"`
	Token    string    `json:"id_token"`
}

const sessionFile = "login.json"

// keepSession writes whole or not at all, and never wider than 0600.
func keepSession(dir string, s account) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+sessionFile) // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, sessionFile))
	}
	if err != nil {
		os.Remove(tmp.Name())
	}
	return err
}

// readSession gives what was kept; false when nobody is signed in. A file that
// others can read is refused: whoever has a token is that person.
func readSession(dir string) (s account, there bool, err error) {
	name := filepath.Join(dir, sessionFile)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return s, false, fmt.Errorf("%s has mode %04o and others may have read the token in it: exeat logout, then exeat login", name, mode)
	}
	b, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil || s.Token == "" {
		return s, false, fmt.Errorf("%s cannot be read: exeat logout, then exeat login", name)
	}
	return s, true, nil
}

// forgetSession removes it; false when there was none.
func forgetSession(dir string) (bool, error) {
	err := os.Remove(filepath.Join(dir, sessionFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// remote are the flags of commands that people use on an exeatd that may run
// elsewhere.
type remote struct {
	data, api, ca string
	local         bool
}

func (r *remote) flags(f *pflag.FlagSet) {
	f.StringVar(&r.api, "api", "", "URL of the API (that of the exeatd on this machine when empty)")
	f.StringVar(&r.ca, "ca", "", "file with the CA that the API's certificate is verified by (the system's roots, or this machine's exeatd)")
}

func (r *remote) take(cmd *cobra.Command) { r.data, _ = cmd.Flags().GetString("data") }

// public is the API without anybody's token.
func (r remote) public(options ...client.Option) (*client.Client, error) {
	base, file := r.api, r.ca
	if base == "" {
		e, err := client.ReadEndpoints(r.data)
		if err != nil {
			return nil, err
		}
		base = e.API
		if file == "" {
			file = e.CAFile
		}
	}
	var ca []byte
	if file != "" {
		var err error
		if ca, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
	}
	return client.NewRemote(base, ca, options...)
}

// caller is the API as whoever is signed in; when nobody is, or --local says so,
// that of the operator of this machine's exeatd.
func (r remote) caller() (*client.Client, error) {
	if !r.local {
		s, there, err := readSession(r.data)
		if err != nil {
			return nil, err
		}
		if there {
			return r.public(client.WithToken(client.NewSecret(s.Token)))
		}
		if r.api != "" {
			return nil, errors.New("nobody is signed in: exeat login --api " + r.api)
		}
	}
	return operatorAPI(r.data)
}
