package catalog

import (
	"context"
	"crypto/sha256"
	"time"
)

// seen is what the publisher last made of the folder.
type seen struct {
	at   fingerprint
	refs []reference
	// pending is a good catalog that the store has not taken yet.
	pending *candidate
}

// fingerprint is by content: times and sizes miss changes, and a ConfigMap's
// files are links whose targets are swapped.
type fingerprint struct {
	folder [sha256.Size]byte
	refs   [sha256.Size]byte
}

// see looks at the folder, and at the files that the catalog seen last names.
func (p *Publisher) see(ctx context.Context, refs []reference) (fingerprint, folder) {
	f := p.read(ctx)
	root := openSecrets(orDir(p.cfg.Secrets, p.cfg.Dir))
	defer root.close()
	return fingerprint{f.hash(), hashOutcomes(root.read(refs))}, f
}

// read reads the folder, and the bundle if there is one.
func (p *Publisher) read(ctx context.Context) folder {
	return readFolder(p.cfg.Dir).withBundle(ctx, p.cfg.Policies)
}

// Writing several files, or one in parts, takes a moment: the folder is read
// when two looks in a row find the same, or when it will not come to rest.
const (
	settleStep  = 50 * time.Millisecond
	settleSteps = 20
)

func (p *Publisher) settle(ctx context.Context, f folder) folder {
	pause := time.NewTimer(settleStep)
	defer pause.Stop()
	for range settleSteps {
		select {
		case <-ctx.Done():
			return f
		case <-pause.C:
		}
		again := p.read(ctx)
		if again.hash() == f.hash() {
			return again
		}
		f = again
		pause.Reset(settleStep)
	}
	return f
}
