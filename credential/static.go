package credential

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
)

// maxSecret bounds a secret file; a header that is longer passes nowhere.
const maxSecret = 16 << 10

// staticProvider puts a standing secret on the call. It is injected, not
// minted: it outlives its grants, and is read anew for each.
type staticProvider struct {
	root string
	spec *v1alpha1.StaticProvider
}

// Narrow has nothing to narrow: the secret may do what it may do.
func (p *staticProvider) Narrow(r Request) (Ask, error) {
	return Ask{ID: newID(r.Now), Grant: r.Grant.ID, Task: r.Grant.Task, Subject: r.Subject}, nil
}

// Mint reads the secret's file.
func (p *staticProvider) Mint(_ context.Context, a Ask) (Minted, error) {
	m := Minted{Handle: a.ID, Injected: true}
	switch {
	case p.spec.Header != nil:
		h := p.spec.Header
		text, err := readSecret(p.root, h.Value.File)
		if err != nil {
			return Minted{}, err
		}
		m.Headers = []Header{{Name: strings.ToLower(h.Name), Value: policy.NewSecret(h.Prefix + text)}}
	case p.spec.Basic != nil:
		b := p.spec.Basic
		text, err := readSecret(p.root, b.Password.File)
		if err != nil {
			return Minted{}, err
		}
		// RFC 7617 section 2.
		pair := base64.StdEncoding.EncodeToString([]byte(b.Username + ":" + text))
		m.Headers = []Header{{Name: "authorization", Value: policy.NewSecret("Basic " + pair)}}
	default:
		return Minted{}, errors.New("the static provider has neither header nor basic")
	}
	return m, nil
}

// Apply puts the secret on the call.
func (p *staticProvider) Apply(_ context.Context, m Minted, _ *policy.Call) ([]Header, error) {
	return m.Headers, nil
}

// Revoke can do nothing: the secret is not the grant's.
func (p *staticProvider) Revoke(context.Context, string) (Outcome, error) { return Unsupported, nil }

// readSecret reads a file under the secrets root, which no link leads out of,
// without the line break that editors put at its end. Errors say which file and
// what to do, never what is in it.
func readSecret(root, name string) (string, error) {
	if root == "" {
		return "", errors.New("no secrets root is configured: a static provider needs one")
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return "", fmt.Errorf("secrets root: %w", cause(err))
	}
	defer dir.Close()
	f, err := dir.Open(name)
	if err != nil {
		return "", fmt.Errorf("secret file %s under the secrets root: %w; put the secret there", name, cause(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("secret file %s: %w", name, cause(err))
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case text == "":
		return "", fmt.Errorf("secret file %s is empty; put the secret there", name)
	case len(b) > maxSecret:
		return "", fmt.Errorf("secret file %s is longer than %d bytes; no header carries that", name, maxSecret)
	case strings.ContainsFunc(text, unfit) || strings.TrimSpace(text) != text:
		return "", fmt.Errorf("secret file %s holds characters that a header cannot carry, such as a line break; write the secret alone, on one line", name)
	}
	return text, nil
}

// unfit reports what may not be in a field value (RFC 9110 section 5.5).
func unfit(r rune) bool { return r < ' ' || r == 0x7f || r > 0x7e }

// cause takes the path of this machine out of an error.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
