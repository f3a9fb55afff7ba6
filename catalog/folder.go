package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Bounds of a catalog folder. A ConfigMap holds at most 1 MiB.
const (
	maxFileBytes = 1 << 20
	maxFiles     = 1000
)

// file is one YAML file as it was read.
type file struct {
	name string
	text []byte
}

// folder is what a catalog folder held at one moment.
type folder struct {
	files    []file
	policies []file // *.rego below policies/
	tests    bool   // *_test.rego too
	errs     Errors
}

// readFolder reads the YAML files of dir. Nothing outside dir is opened,
// whatever links say.
func readFolder(dir string) folder {
	var f folder
	root, err := os.OpenRoot(dir)
	if err != nil {
		return f.fail(path.Base(dir), "the catalog folder "+whyNoRoot(err))
	}
	defer func() { _ = root.Close() }() // nothing was written
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return f.fail(path.Base(dir), "the catalog folder "+why(err))
	}
	for _, e := range entries {
		if !isYAML(e.Name()) {
			continue
		}
		if len(f.files) == maxFiles {
			return f.fail(path.Base(dir), fmt.Sprintf("the catalog folder holds more than %d files", maxFiles))
		}
		text, err := readWithin(root, e.Name(), maxFileBytes)
		if err != nil {
			f = f.fail(e.Name(), why(err))
			continue
		}
		f.files = append(f.files, file{e.Name(), text})
	}
	f = f.readPolicies(root, policiesFolder, 0)
	if len(f.files) == 0 && len(f.errs) == 0 {
		f = f.fail(path.Base(dir), "the catalog folder holds no *.yaml or *.yml file")
	}
	return f
}

func (f folder) fail(name, message string) folder {
	f.errs = append(f.errs, Error{File: name, Message: message})
	return f
}

// hash stands for all that was read, and for what could not be.
func (f folder) hash() [sha256.Size]byte {
	h := sha256.New()
	for _, file := range slices.Concat(f.files, f.policies) {
		fmt.Fprintf(h, "%d %s %d\n", len(file.name), file.name, len(file.text))
		h.Write(file.text)
	}
	fmt.Fprint(h, f.errs.Error())
	return [sha256.Size]byte(h.Sum(nil))
}

// isYAML leaves out hidden names: editors' own files, and the versions behind
// a ConfigMap's links.
func isYAML(name string) bool {
	ext := path.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".")
}

var (
	errIrregular = errors.New("is not a regular file")
	errLarge     = errors.New("is too large")
)

// openWithin opens a regular file of root. It does not wait for the other end
// of a named pipe.
func openWithin(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errIrregular
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// readWithin reads a regular file of root that holds at most limit bytes.
func readWithin(root *os.Root, name string, limit int64) ([]byte, error) {
	f, _, err := openWithin(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%w: at most %d bytes are read", errLarge, limit)
	}
	return text, nil
}

// whyNoRoot words an error of os.OpenRoot.
func whyNoRoot(err error) string {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return why(err)
	}
	return "is not a folder"
}

// why words an error of os.Root without the path, which the caller names.
func why(err error) string {
	var errno syscall.Errno
	switch {
	case errors.Is(err, errIrregular), errors.Is(err, errLarge):
		return err.Error()
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist"
	case errors.Is(err, fs.ErrPermission):
		return "may not be read by this user"
	case errors.As(err, &errno):
		return "cannot be read: " + errno.Error()
	default:
		// What is left is os.Root's own refusal, which has no exported name.
		return "leads out of its folder: a symbolic link must stay inside"
	}
}
