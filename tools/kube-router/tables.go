package main

import (
	"strings"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/utils"
)

const memory = 30 * time.Second

// remembered answers from memory what is asked of the top-level chains at the beginning of each synchronization. These stay
// as they are, and asking costs eighteen processes, on every node, before a new pod's address is let through.
type remembered struct {
	utils.IPTablesHandler
	answers map[string]any
	since   time.Time
}

func (r *remembered) ChainExists(table, chain string) (bool, error) {
	return recall(r, "chain "+chain, func() (bool, error) { return r.IPTablesHandler.ChainExists(table, chain) })
}

func (r *remembered) Exists(table, chain string, rule ...string) (bool, error) {
	return recall(r, "rule "+chain+strings.Join(rule, " "), func() (bool, error) {
		return r.IPTablesHandler.Exists(table, chain, rule...)
	})
}

func (r *remembered) List(table, chain string) ([]string, error) {
	return recall(r, "list "+chain, func() ([]string, error) { return r.IPTablesHandler.List(table, chain) })
}

func (r *remembered) AppendUnique(table, chain string, rule ...string) error {
	_, err := recall(r, "append "+chain+strings.Join(rule, " "), func() (bool, error) {
		return true, r.IPTablesHandler.AppendUnique(table, chain, rule...)
	})
	return err
}

func (r *remembered) Insert(table, chain string, position int, rule ...string) error {
	clear(r.answers)
	return r.IPTablesHandler.Insert(table, chain, position, rule...)
}

// recall keeps an answer, unless it is an error, or no: that is mended at once.
func recall[T any](r *remembered, question string, ask func() (T, error)) (T, error) {
	if time.Since(r.since) > memory {
		clear(r.answers)
		r.since = time.Now()
	}
	if known, ok := r.answers[question]; ok {
		return known.(T), nil
	}
	answer, err := ask()
	if err == nil && any(answer) != any(false) {
		r.answers[question] = answer
	}
	return answer, err
}
