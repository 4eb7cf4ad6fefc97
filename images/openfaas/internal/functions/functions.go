// Package functions says what a function of any kind is to those who call, list or queue it, and has the functions that
// are registered at the controller. Runtimes and containers, which need Kubernetes, are in package containers: the queue
// worker goes without its client.
package functions

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/types"
)

// An Error is an answer: a status and one line for a person, which faas-cli prints as it is.
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string { return e.Message }

// Refuse makes an Error.
func Refuse(status int, format string, arguments ...any) *Error {
	return &Error{Status: status, Message: fmt.Sprintf(format, arguments...)}
}

// StatusOf is the status of an Error, or 500 of what is none.
func StatusOf(err error) int {
	if refusal, ok := errors.AsType[*Error](err); ok {
		return refusal.Status
	}
	return http.StatusInternalServerError
}

// A Target is where calls of a function go.
type Target struct {
	Name, Namespace string
	// URL is the function's root. Transport, where it is set, is how to get there.
	URL       *url.URL
	Transport http.RoundTripper
	// Timeout is the function's own limit; who waits for the function waits a little longer.
	Timeout     time.Duration
	Annotations map[string]string
	// Wake is set where the function sleeps, and returns once a replica takes calls.
	Wake func(context.Context) error
	// Called is set where somebody wants to know when the function was called last. It returns what ends the call.
	Called func() func()
	// Runtime is set for a language runtime, which counts its callers by headers that only the platform may set.
	Runtime bool
}

// Label is the function's name in metrics.
func (t *Target) Label() string { return t.Name + "." + t.Namespace }

// A Source holds functions of one kind. An unknown one is an Error with status 404.
type Source interface {
	// Owns says whether a name can only be this source's.
	Owns(namespace, name string) bool
	List(ctx context.Context, namespace string) ([]types.FunctionStatus, error)
	Get(ctx context.Context, namespace, name string) (*types.FunctionStatus, error)
	// Target is where a user's call goes, or with an empty user's that of nobody known.
	Target(ctx context.Context, namespace, name, user string) (*Target, error)
}

// A Catalogue is all sources together. Containers come last: they have every name that is nobody else's.
type Catalogue struct {
	// Namespaces that have functions; the first is meant where none is named.
	Namespaces []string
	Sources    []Source
	Containers Source
}

// Namespace checks a namespace that a client named, or gives the default.
func (c *Catalogue) Namespace(named string) (string, error) {
	if named == "" {
		return c.Namespaces[0], nil
	}
	if !slices.Contains(c.Namespaces, named) {
		return "", Refuse(http.StatusNotFound, "there are no functions in the namespace %q, only in: %s", named, strings.Join(c.Namespaces, ", "))
	}
	return named, nil
}

// Split takes NAME or NAME.NAMESPACE apart. A name may have dots of its own.
func (c *Catalogue) Split(qualified string) (namespace, name string) {
	if dot := strings.LastIndexByte(qualified, '.'); dot > 0 && slices.Contains(c.Namespaces, qualified[dot+1:]) {
		return qualified[dot+1:], qualified[:dot]
	}
	return c.Namespaces[0], qualified
}

// Find is the source that a name belongs to.
func (c *Catalogue) Find(namespace, name string) Source {
	for _, source := range c.Sources {
		if source.Owns(namespace, name) {
			return source
		}
	}
	return c.Containers
}

// Get describes a function.
func (c *Catalogue) Get(ctx context.Context, namespace, name string) (*types.FunctionStatus, error) {
	return c.Find(namespace, name).Get(ctx, namespace, name)
}

// Target is where NAME or NAME.NAMESPACE is called. What the user (X-User-ID, as the edge has set it) may not see is Unknown.
func (c *Catalogue) Target(ctx context.Context, qualified, user string) (*Target, error) {
	namespace, name := c.Split(qualified)
	return c.Find(namespace, name).Target(ctx, namespace, name, user)
}

// List has the functions of all kinds, sorted by name. Where a source does not answer, the others' are listed, and its
// fault is returned beside them.
func (c *Catalogue) List(ctx context.Context, namespace string) ([]types.FunctionStatus, error) {
	all := []types.FunctionStatus{} // an empty list is [] and not null in JSON
	var faults []error
	for _, source := range append(slices.Clone(c.Sources), c.Containers) {
		some, err := source.List(ctx, namespace)
		all = append(all, some...)
		faults = append(faults, err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, errors.Join(faults...)
}

// Container refuses what only containers can be asked for, of a function that is none.
func (c *Catalogue) Container(namespace, name, what string) error {
	if other, ok := c.Find(namespace, name).(interface{ Instead() string }); ok {
		return Refuse(http.StatusBadRequest, "%s is no container and cannot be %s here: %s", name, what, other.Instead())
	}
	return nil
}

// Unknown is the Error for a function that does not exist.
func Unknown(namespace, name string) *Error {
	return Refuse(http.StatusNotFound, "there is no function %s in the namespace %s", name, namespace)
}
