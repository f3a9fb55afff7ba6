package stack

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Link is a TCP proxy between two processes, so that a test can part them.
type Link struct {
	Address string // where to connect instead of To
	To      string

	listener net.Listener
	mu       sync.Mutex
	state    linkState
	delay    time.Duration // of whatever passes
	changed  chan struct{} // closed at the next change of state
	conns    map[net.Conn]struct{}
	done     sync.WaitGroup
}

type linkState int

const (
	linkUp   linkState = iota
	linkHeld           // nothing passes, nobody is told
	linkCut            // connections break, new ones are refused at once
)

// NewLink starts one towards an address.
func NewLink(t testing.TB, to string) *Link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &Link{Address: l.Addr().String(), To: to, listener: l, changed: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	k.done.Go(k.accept)
	t.Cleanup(func() {
		_ = l.Close()
		k.set(linkCut)
		k.done.Wait()
	})
	return k
}

// Hold lets nothing pass, as a network does that loses every packet.
func (k *Link) Hold() { k.set(linkHeld) }

// Cut breaks what is connected, and whatever connects.
func (k *Link) Cut() { k.set(linkCut) }

// Slow delays whatever passes, once for each that is read.
func (k *Link) Slow(by time.Duration) {
	k.set(linkUp)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.delay = by
}

// Heal lets everything pass again; what was held arrives late.
func (k *Link) Heal() { k.set(linkUp) }

func (k *Link) set(s linkState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state, k.delay = s, 0
	close(k.changed)
	k.changed = make(chan struct{})
	if s == linkCut {
		for c := range k.conns {
			_ = c.Close()
		}
	}
}

func (k *Link) accept() {
	for {
		c, err := k.listener.Accept()
		if err != nil {
			return
		}
		k.done.Go(func() { k.serve(c) })
	}
}

// serve joins one connection to the other side, once the link lets it.
func (k *Link) serve(near net.Conn) {
	defer near.Close()
	if !k.keep(near) || !k.pass() {
		return
	}
	defer k.drop(near)
	far, err := net.Dial("tcp", k.To)
	if err != nil {
		return
	}
	defer far.Close()
	if !k.keep(far) {
		return
	}
	defer k.drop(far)
	var both sync.WaitGroup
	both.Go(func() { k.copy(far, near) })
	both.Go(func() { k.copy(near, far) })
	both.Wait()
}

// copy moves bytes one way and ends both ways with it.
func (k *Link) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if !k.pass() {
				return
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the link is held; false when it is cut.
func (k *Link) pass() bool {
	for {
		k.mu.Lock()
		state, changed, delay := k.state, k.changed, k.delay
		k.mu.Unlock()
		if state != linkHeld {
			time.Sleep(delay) // what a slow link is
			return state == linkUp
		}
		<-changed
	}
}

func (k *Link) keep(c net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conns[c] = struct{}{}
	return k.state != linkCut
}

func (k *Link) drop(c net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, c)
}
