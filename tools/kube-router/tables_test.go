package main

import (
	"errors"
	"testing"

	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
)

// asked counts the questions that reach iptables.
type asked struct {
	utils.IPTablesHandler
	times  int
	answer bool
	fails  error
}

func (a *asked) Exists(_, _ string, _ ...string) (bool, error) {
	a.times++
	return a.answer, a.fails
}

func (a *asked) Insert(_, _ string, _ int, _ ...string) error { return nil }

func TestOnlyWhatIsThereIsRemembered(t *testing.T) {
	tables := &asked{}
	ours := &remembered{IPTablesHandler: tables, answers: map[string]any{}}
	ask := func(chain string) bool {
		found, err := ours.Exists("filter", chain, "-j", "DROP")
		if !errors.Is(err, tables.fails) {
			t.Fatal(err)
		}
		return found
	}
	expect := func(what string, times int) {
		t.Helper()
		if tables.times != times {
			t.Errorf("%s: asked %d times, expected %d", what, tables.times, times)
		}
	}

	if ask("A") || ask("A") {
		t.Error("a rule that is missing was found")
	}
	expect("missing", 2)
	tables.fails = errors.New("no such table")
	ask("A")
	ask("A")
	expect("an error", 4)
	tables.fails, tables.answer = nil, true
	if !ask("A") || !ask("A") {
		t.Error("a rule that is there was not found")
	}
	expect("there", 5)
	ask("B")
	expect("another chain", 6)
	if err := ours.Insert("filter", "B", 1, "-j", "ACCEPT"); err != nil {
		t.Fatal(err)
	}
	ask("A")
	expect("after a change", 7)
	ours.since = ours.since.Add(-2 * memory)
	ask("A")
	expect("after a while", 8)
}
