package store

import (
	"strconv"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestTableIsAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab, model := newTable[string, int](), make(map[string]int)
		for n := range rapid.IntRange(0, 400).Draw(t, "steps") {
			k := strconv.Itoa(rapid.IntRange(0, 200).Draw(t, "key"))
			if _, ok := model[k]; ok {
				tab.remove(k)
				delete(model, k)
			} else {
				tab.add(k, n)
				model[k] = n
			}
		}
		seen := 0
		for k, v := range tab.all() {
			if want, ok := model[k]; !ok || want != v {
				t.Fatalf("%s is %d, want %d, %v", k, v, want, ok)
			}
			seen++
		}
		if seen != len(model) || tab.n != len(model) {
			t.Fatalf("visited %d of %d", seen, len(model))
		}
		for k, want := range model {
			if v, ok := tab.get(k); !ok || v != want {
				t.Fatalf("%s is %d, %v; want %d", k, v, ok, want)
			}
		}
	})
}

// Entries that stay are found at every moment, while others come and go around
// them; run with -race.
func TestTableIsReadWhileItIsWritten(t *testing.T) {
	t.Parallel()
	tab := newTable[string, int]()
	const stay = 50
	for n := range stay {
		tab.add("stay"+strconv.Itoa(n), n)
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for n := 0; ; n = (n + 1) % stay {
				select {
				case <-stop:
					return
				default:
				}
				if v, ok := tab.get("stay" + strconv.Itoa(n)); !ok || v != n {
					t.Errorf("%d reads as %d, %v", n, v, ok)
					return
				}
			}
		})
	}
	for round := range 4 {
		for n := range 2000 {
			tab.add(strconv.Itoa(round)+"/"+strconv.Itoa(n), n)
		}
		for n := range 2000 {
			tab.remove(strconv.Itoa(round) + "/" + strconv.Itoa(n))
		}
	}
	close(stop)
	readers.Wait()
}
