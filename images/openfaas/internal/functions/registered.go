package functions

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/openfaas/faas-provider/types"
	"golang.org/x/sync/singleflight"
)

const (
	// How long a function's version is believed, and so the longest that a replaced script is still called.
	versionFresh = 2 * time.Second
	// A session is given up this long before it expires, so that no call meets its end.
	sessionMargin = 2 * time.Minute
	// Sessions that are remembered. Each caller of each function has one.
	maxSessions = 20000
)

// Registered are the functions that callers register at the controller. A call initializes a session with the function's
// name, once for each caller and version of the script, and executes it.
type Registered struct {
	Controller *url.URL
	Namespace  string
	Timeout    time.Duration
	// MaxBody is the most bytes of a call's body: the controller keeps its own limit, this one keeps them out of memory.
	MaxBody int64
	Client  http.RoundTripper

	mutex    sync.Mutex
	versions map[versionKey]version
	sessions map[sessionKey]session
	flights  singleflight.Group
}

type (
	version struct {
		registeredFunction
		seen time.Time
	}
	// A user may have a function of its own of a name that another holds for everybody else, or see more than others.
	versionKey struct{ name, user string }
	// Of the caller: the user, or the address that the edge saw, for whom the controller counts what is kept.
	sessionKey struct{ name, user, address string }
	session    struct {
		id      string
		version int
		sha     string
		expires time.Time
	}
	registeredFunction struct {
		Name    string    `json:"language_title"`
		Version int       `json:"version"`
		SHA     string    `json:"script_sha256"`
		Created time.Time `json:"created_at"`
		// Whether the name alone leads to it. A controller of the release before says nothing, and has no others.
		Plain *bool `json:"holds_plain_name"`
	}
)

var registeredName = regexp.MustCompile(`^(nodejs|python|rust)-[A-Za-z0-9._-]+$`)

// Instead says who changes a registered function.
func (r *Registered) Instead() string {
	return "names that begin with nodejs-, python- or rust- are functions registered at the controller (/api/v1/functions)"
}

// Owns all names that the controller takes. The runtimes, which have such names too, are asked before.
func (r *Registered) Owns(namespace, name string) bool {
	return namespace == r.Namespace && registeredName.MatchString(name)
}

// List asks the controller for all its pages.
func (r *Registered) List(ctx context.Context, namespace string) ([]types.FunctionStatus, error) {
	if namespace != r.Namespace {
		return nil, nil
	}
	var all []types.FunctionStatus
	for page, read := 1, 0; ; page++ {
		var answer struct {
			Functions []registeredFunction `json:"functions"`
			Total     int                  `json:"total"`
		}
		if err := r.ask(ctx, http.MethodGet, fmt.Sprintf("/api/v1/functions?page=%d&per_page=100", page), nil, nil, &answer); err != nil {
			return all, err
		}
		for _, function := range answer.Functions {
			// A name here has no owner, so leads to one of those that have it.
			if function.Plain == nil || *function.Plain {
				all = append(all, r.status(function))
			}
		}
		read += len(answer.Functions)
		if len(answer.Functions) == 0 || read >= answer.Total {
			return all, nil
		}
	}
}

func (r *Registered) status(function registeredFunction) types.FunctionStatus {
	return types.FunctionStatus{
		Name: function.Name, Namespace: r.Namespace, CreatedAt: function.Created,
		Image: "script " + function.SHA, Labels: &map[string]string{},
		// The controller and the runtimes have the replicas; one is what a client that waits for "ready" looks for.
		Replicas: 1, AvailableReplicas: 1,
		Annotations: &map[string]string{KindAnnotation: "registered", "version": strconv.Itoa(function.Version)},
	}
}

// Get describes one.
func (r *Registered) Get(ctx context.Context, namespace, name string) (*types.FunctionStatus, error) {
	function, err := r.look(ctx, namespace, name, "")
	if err != nil {
		return nil, err
	}
	status := r.status(function)
	return &status, nil
}

// Target of a call: the controller, by a transport that makes of the call what the controller takes.
func (r *Registered) Target(ctx context.Context, namespace, name, user string) (*Target, error) {
	if _, err := r.look(ctx, namespace, name, user); err != nil {
		return nil, err
	}
	return &Target{Name: name, Namespace: namespace, URL: r.Controller, Timeout: r.Timeout, Transport: registeredCall{r, name}}, nil
}

// look gives a function as the controller has it for a user, or has had it a moment ago.
func (r *Registered) look(ctx context.Context, namespace, name, user string) (registeredFunction, error) {
	key := versionKey{name, user}
	r.mutex.Lock()
	known, ok := r.versions[key]
	r.mutex.Unlock()
	if ok && time.Since(known.seen) < versionFresh {
		return known.registeredFunction, nil
	}
	var function registeredFunction
	header := http.Header{}
	if user != "" {
		header.Set("X-User-Id", user)
	}
	if err := r.ask(ctx, http.MethodGet, "/api/v1/functions/"+name, header, nil, &function); err != nil {
		if StatusOf(err) == http.StatusNotFound {
			return function, Unknown(namespace, name)
		}
		return function, err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.versions == nil || len(r.versions) >= maxSessions {
		r.versions = map[versionKey]version{}
	}
	r.versions[key] = version{function, time.Now()}
	return function, nil
}

// ask sends JSON and reads JSON. What the controller refuses is an Error with its status and its words.
func (r *Registered) ask(ctx context.Context, method, path string, header http.Header, body []byte, answer any) error {
	response, err := r.send(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode == http.StatusOK {
		err = json.Unmarshal(content, answer)
	} else if err == nil {
		var refusal struct{ Error struct{ Message string } }
		_ = json.Unmarshal(content, &refusal)
		return Refuse(response.StatusCode, "the controller refuses: %s", refusal.Error.Message)
	}
	if err != nil {
		return Refuse(http.StatusBadGateway, "the controller answers what cannot be read: %s", err)
	}
	return nil
}

func (r *Registered) send(ctx context.Context, method, path string, header http.Header, body []byte) (*http.Response, error) {
	address, err := r.Controller.Parse(path)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, address.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"X-User-Id", "X-Forwarded-For", "X-Timeout-Seconds", "Language-Title", "Traceparent", "Tracestate"} {
		if values := header[name]; len(values) > 0 {
			request.Header[name] = values
		}
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return r.Client.RoundTrip(request)
}

// session finds or makes the caller's session of the version that is registered now.
func (r *Registered) session(ctx context.Context, name string, header http.Header) (string, sessionKey, error) {
	function, err := r.look(ctx, r.Namespace, name, header.Get("X-User-Id"))
	if err != nil {
		return "", sessionKey{}, err
	}
	key := sessionKey{name: name, user: header.Get("X-User-Id"), address: header.Get("X-Forwarded-For")}
	r.mutex.Lock()
	known, ok := r.sessions[key]
	r.mutex.Unlock()
	if ok && known.version == function.Version && known.sha == function.SHA && time.Until(known.expires) > sessionMargin {
		return known.id, key, nil
	}
	// Calls that come together wait for one session, which the first one's leaving must not take from the others.
	flight := fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %d %s", key, function.Version, function.SHA)))
	made, err, _ := r.flights.Do(flight, func() (any, error) {
		lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		initialize := header.Clone()
		initialize.Del("X-Timeout-Seconds")
		initialize.Set("Language-Title", name)
		var answer struct {
			ID      string    `json:"request_id"`
			Expires time.Time `json:"expires_at"`
		}
		if err := r.ask(lasting, http.MethodPost, "/api/v1/initialize", initialize, []byte("{}"), &answer); err != nil {
			return nil, err
		}
		r.mutex.Lock()
		defer r.mutex.Unlock()
		if r.sessions == nil || len(r.sessions) >= maxSessions {
			r.sessions = map[sessionKey]session{} // those that are in use come back by themselves
		}
		r.sessions[key] = session{id: answer.ID, version: function.Version, sha: function.SHA, expires: answer.Expires}
		return answer.ID, nil
	})
	if err != nil {
		return "", key, err
	}
	return made.(string), key, nil
}

// A registeredCall turns a function's call into an execution: a body of JSON is `params`, the script's result is the answer.
type registeredCall struct {
	*Registered
	name string
}

// RoundTrip sends an execution once. Where the controller does not know the session any more nothing has run, and a new
// one is made.
func (c registeredCall) RoundTrip(call *http.Request) (*http.Response, error) {
	if path := call.URL.Path; path != "" && path != "/" {
		return nil, Refuse(http.StatusNotFound, "%s is a registered function, which has no paths; found %q", c.name, path)
	}
	if call.Method != http.MethodPost {
		return nil, Refuse(http.StatusMethodNotAllowed, "%s is a registered function and takes POST; found %s", c.name, call.Method)
	}
	params := []byte("{}")
	if call.Body != nil {
		content, err := io.ReadAll(io.LimitReader(call.Body, c.MaxBody+1))
		if err != nil {
			return nil, Refuse(http.StatusBadRequest, "the body cannot be read: %s", err)
		}
		if int64(len(content)) > c.MaxBody {
			return nil, Refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes, which is the most for a registered function", c.MaxBody)
		}
		if content = bytes.TrimSpace(content); len(content) > 0 {
			params = content
		}
	}
	if !json.Valid(params) {
		return nil, Refuse(http.StatusBadRequest, "the body is no JSON, which a registered function takes as its params")
	}
	body := append(append([]byte(`{"params":`), params...), '}')
	for attempt := 0; ; attempt++ {
		id, key, err := c.session(call.Context(), c.name, call.Header)
		if err != nil {
			return nil, err
		}
		response, err := c.send(call.Context(), http.MethodPost, "/api/v1/execute/"+id, call.Header, body)
		if err != nil {
			return nil, err
		}
		if response.StatusCode == http.StatusNotFound && attempt == 0 {
			_ = response.Body.Close()
			c.mutex.Lock()
			if c.sessions[key].id == id {
				delete(c.sessions, key)
			}
			c.mutex.Unlock()
			continue
		}
		if response.StatusCode == http.StatusServiceUnavailable || response.StatusCode == http.StatusTooManyRequests {
			response.Header.Set(NotStarted, "true") // the controller's word for both: nothing ran
		}
		return c.result(response)
	}
}

// result leaves an error of the controller's as it is, and takes the script's result out of its envelope.
func (c registeredCall) result(response *http.Response) (*http.Response, error) {
	if response.StatusCode != http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var executed struct {
		Result json.RawMessage `json:"result"`
		Time   json.Number     `json:"execution_time_ms"`
		Memory json.Number     `json:"memory_usage_bytes"`
	}
	if err := json.NewDecoder(response.Body).Decode(&executed); err != nil {
		return nil, fmt.Errorf("the controller's answer ended early: %w", err)
	}
	response.Header.Set("X-Execution-Time-Ms", executed.Time.String())
	response.Header.Set("X-Memory-Usage-Bytes", executed.Memory.String())
	response.Header.Del("Content-Length")
	response.ContentLength = int64(len(executed.Result))
	response.Body = io.NopCloser(bytes.NewReader(executed.Result))
	return response, nil
}
