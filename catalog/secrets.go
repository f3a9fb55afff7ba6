package catalog

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

const maxSecretBytes = 64 << 10

// secretsRoot is the folder under which the files lie that a catalog names.
type secretsRoot struct {
	root *os.Root
	err  error
}

func openSecrets(dir string) secretsRoot {
	root, err := os.OpenRoot(dir)
	return secretsRoot{root, err}
}

func (s secretsRoot) close() {
	if s.root != nil {
		_ = s.root.Close() // nothing was written
	}
}

// check refuses names that could lead out of the root before anything is opened.
func (s secretsRoot) check(name string) string {
	switch {
	case !filepath.IsLocal(name) || slices.Contains(strings.Split(name, "/"), ".."):
		return "leaves the secrets root: want a relative path without .."
	case s.err != nil:
		return "the secrets root " + whyNoRoot(s.err)
	}
	return ""
}

// certificates reads a file of PEM certificates (RFC 7468 section 5) and gives
// them back without anything that stood around them.
func (s secretsRoot) certificates(name string) (text, wrong string) {
	if wrong := s.check(name); wrong != "" {
		return "", wrong
	}
	raw, err := readWithin(s.root, name, maxFileBytes)
	if err != nil {
		return "", "the file " + why(err)
	}
	return onlyCertificates(raw)
}

func onlyCertificates(raw []byte) (text, wrong string) {
	var b strings.Builder
	for number := 1; ; number++ {
		block, rest := pem.Decode(raw)
		if block == nil {
			break
		}
		raw = rest
		if block.Type != "CERTIFICATE" {
			return "", "the file holds something besides certificates: keep keys elsewhere"
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Sprintf("certificate %d of the file cannot be parsed", number)
		}
		b.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	if strings.Contains(string(raw), "-----BEGIN ") {
		return "", "the file holds a block that is cut or cannot be read"
	}
	if b.Len() == 0 {
		return "", "the file holds no certificate: want PEM blocks that begin with BEGIN CERTIFICATE"
	}
	return b.String(), ""
}

// secret looks at a file with a secret, and does not read it.
func (s secretsRoot) secret(name string) (wrong string) {
	if wrong := s.check(name); wrong != "" {
		return wrong
	}
	f, info, err := openWithin(s.root, name)
	if err != nil {
		return "the file " + why(err)
	}
	defer f.Close()
	switch {
	case info.Size() == 0:
		return "the file is empty"
	case info.Size() > maxSecretBytes:
		return fmt.Sprintf("the file is too large for a secret: at most %d bytes", maxSecretBytes)
	case tooOpen(info):
		return "the file is open to others than its owner: chmod 600 it"
	}
	return ""
}

// tooOpen reports whether others may read or write a file. Its group may read
// it when it is not ours: that is how Kubernetes mounts a secret for a process
// that is not root (fsGroup), and then the only way for us to read it.
func tooOpen(info fs.FileInfo) bool {
	allowed := fs.FileMode(0o700)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		allowed |= 0o040
	}
	return info.Mode().Perm()&^allowed != 0
}

// reference is one mention of a file.
type reference struct {
	owner  objectKey
	field  string
	name   string
	secret bool // looked at, never read
}

// references lists the files that a set names. One without a name is for
// policy.Compile to report.
func references(set *v1alpha1.Set) []reference {
	var refs []reference
	for _, d := range set.Destinations {
		if d.Spec.TLS != nil {
			refs = append(refs, reference{objectKey{"Destination", d.Name}, "spec.tls.ca.file", d.Spec.TLS.CA.File, false})
		}
	}
	for _, p := range set.Providers {
		key := objectKey{"Provider", p.Name}
		if s := p.Spec.Static; s != nil && s.Header != nil {
			refs = append(refs, reference{key, "spec.static.header.value.file", s.Header.Value.File, true})
		}
		if s := p.Spec.Static; s != nil && s.Basic != nil {
			refs = append(refs, reference{key, "spec.static.basic.password.file", s.Basic.Password.File, true})
		}
	}
	return slices.DeleteFunc(refs, func(r reference) bool { return r.name == "" })
}

// outcome is what came of one reference.
type outcome struct {
	reference
	text, wrong string
}

// read reads certificates and looks at secrets.
func (s secretsRoot) read(refs []reference) []outcome {
	outcomes := make([]outcome, len(refs))
	for i, ref := range refs {
		outcomes[i].reference = ref
		if ref.secret {
			outcomes[i].wrong = s.secret(ref.name)
		} else {
			outcomes[i].text, outcomes[i].wrong = s.certificates(ref.name)
		}
	}
	return outcomes
}

// hashOutcomes stands for the state of the files that a set names.
func hashOutcomes(outcomes []outcome) [sha256.Size]byte {
	h := sha256.New()
	for _, o := range outcomes {
		fmt.Fprintf(h, "%q %q %q\n", o.name, o.text, o.wrong)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// resolve puts the certificates that the set names into it.
func (r *reader) resolve(outcomes []outcome) {
	for _, out := range outcomes {
		o := r.objects[out.owner]
		switch {
		case out.wrong != "" && !o.spoiled(out.field):
			r.errs = append(r.errs, Error{o.file, o.lineOf(out.field), out.field, out.wrong})
			o.wrong = append(o.wrong, out.field)
			r.objects[out.owner] = o
		case out.text != "":
			if r.set.CAs == nil {
				r.set.CAs = map[string]string{}
			}
			r.set.CAs[out.name] = out.text
		}
	}
}
