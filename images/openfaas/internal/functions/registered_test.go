package functions

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const ns = "openfaas-fn"

// A controller answers as images/controller/openapi.yaml describes.
type controller struct {
	mutex       sync.Mutex
	version     int
	sessions    map[string]string // to the user
	initialized atomic.Int32
	executed    atomic.Int32
	busy        bool
}

func (c *controller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	fail := func(status int, code, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`, code, message)
	}
	function := fmt.Sprintf(`{"language_title":"nodejs-hello","language":"nodejs","version":%d,"script_size_bytes":1,"script_sha256":"%064d","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}`, c.version, c.version)
	switch path := r.URL.Path; {
	case path == "/api/v1/functions":
		if r.URL.Query().Get("page") != "1" {
			function = ""
		} else {
			// Another owner's of the same name, which the name alone does not lead to.
			other := strings.Replace(function, "{", `{"owner":"bob","holds_plain_name":false,`, 1)
			function = strings.Replace(function, "{", `{"owner":"ada","holds_plain_name":true,`, 1) + "," + other
		}
		fmt.Fprintf(w, `{"functions":[%s],"page":1,"per_page":100,"total":2}`, function)
	case path == "/api/v1/functions/nodejs-hello":
		_, _ = io.WriteString(w, function)
	case path == "/api/v1/functions/nodejs-private" && r.Header.Get("X-User-Id") == "ada":
		_, _ = io.WriteString(w, strings.Replace(function, "nodejs-hello", "nodejs-private", 1))
	case strings.HasPrefix(path, "/api/v1/functions/"):
		fail(404, "NOT_FOUND", "no such function")
	case path == "/api/v1/initialize":
		if title := r.Header.Get("Language-Title"); title != "nodejs-hello" && (title != "nodejs-private" || r.Header.Get("X-User-Id") != "ada") {
			fail(404, "NOT_FOUND", "no such function")
			return
		}
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", c.initialized.Add(1))
		c.sessions[id] = r.Header.Get("X-User-Id")
		fmt.Fprintf(w, `{"request_id":%q,"status":"initialized","expires_at":%q}`, id, time.Now().Add(time.Hour).Format(time.RFC3339))
	case strings.HasPrefix(path, "/api/v1/execute/"):
		user, ok := c.sessions[strings.TrimPrefix(path, "/api/v1/execute/")]
		if !ok || user != "" && user != r.Header.Get("X-User-Id") {
			fail(404, "NOT_FOUND", "no such session")
			return
		}
		if c.busy {
			w.Header().Set("Retry-After", "1")
			fail(503, "UNAVAILABLE", "all places are taken")
			return
		}
		var body struct{ Params any }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			fail(400, "INVALID_REQUEST", err.Error())
			return
		}
		if body.Params == "throw" {
			fail(422, "RUNTIME_ERROR", "it threw")
			return
		}
		c.executed.Add(1)
		result, _ := json.Marshal(map[string]any{"got": body.Params, "version": c.version, "for": r.Header.Get("X-User-Id")})
		fmt.Fprintf(w, `{"result":%s,"request_id":"x","execution_time_ms":1.5,"memory_usage_bytes":1024}`, result)
	}
}

func registered(t *testing.T) (*Registered, *controller) {
	t.Helper()
	c := &controller{version: 1, sessions: map[string]string{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	address, _ := url.Parse(server.URL)
	return &Registered{Controller: address, Namespace: ns, Timeout: time.Second, MaxBody: 1000, Client: http.DefaultTransport}, c
}

func execute(t *testing.T, r *Registered, method, path, body, user string) (*http.Response, string, error) {
	t.Helper()
	return executeFunction(t, r, "nodejs-hello", method, path, body, user)
}

func executeFunction(t *testing.T, r *Registered, name, method, path, body, user string) (*http.Response, string, error) {
	t.Helper()
	target, err := r.Target(t.Context(), ns, name, user)
	if err != nil {
		t.Fatal(err)
	}
	call := httptest.NewRequest(method, path, strings.NewReader(body))
	call.Header.Set("X-User-Id", user)
	response, err := target.Transport.RoundTrip(call)
	if err != nil {
		return nil, "", err
	}
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(content), nil
}

func TestARegisteredFunctionTakesParamsAndGivesItsResult(t *testing.T) {
	r, c := registered(t)
	for _, body := range []string{`{"name":"world"}`, "", " 7 "} {
		response, result, err := execute(t, r, http.MethodPost, "/", body, "ada")
		if err != nil || response.StatusCode != 200 || response.Header.Get("X-Execution-Time-Ms") != "1.5" || !strings.Contains(result, `"for":"ada"`) {
			t.Errorf("%q: %v %s %v", body, response, result, err)
		}
		if body == `{"name":"world"}` && !strings.Contains(result, `"got":{"name":"world"}`) {
			t.Errorf("%s", result)
		}
	}
	if c.initialized.Load() != 1 {
		t.Errorf("%d sessions for 3 calls of one caller", c.initialized.Load())
	}
	if _, result, _ := execute(t, r, http.MethodPost, "/", "", "eve"); !strings.Contains(result, `"for":"eve"`) || c.initialized.Load() != 2 {
		t.Errorf("another caller: %s, %d sessions", result, c.initialized.Load())
	}
	if all, err := r.List(t.Context(), ns); err != nil || len(all) != 1 || all[0].Name != "nodejs-hello" {
		t.Errorf("%v %v", all, err)
	}
	if _, err := r.Target(t.Context(), ns, "nodejs-none", "ada"); StatusOf(err) != 404 {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestAPrivateFunctionIsThereForThoseWhoMaySeeIt(t *testing.T) {
	r, _ := registered(t)
	response, result, err := executeFunction(t, r, "nodejs-private", http.MethodPost, "/", "{}", "ada")
	if err != nil || response.StatusCode != 200 || !strings.Contains(result, `"for":"ada"`) {
		t.Errorf("its owner: %v %s %v", response, result, err)
	}
	for _, user := range []string{"eve", ""} {
		if _, err := r.Target(t.Context(), ns, "nodejs-private", user); StatusOf(err) != 404 {
			t.Errorf("%q: %v", user, err)
		}
	}
}

func TestAReplacedScriptAndALostSessionAreNoticed(t *testing.T) {
	r, c := registered(t)
	if _, result, _ := execute(t, r, http.MethodPost, "/", "", ""); !strings.Contains(result, `"version":1`) {
		t.Fatal(result)
	}
	c.mutex.Lock()
	c.version, c.sessions = 2, map[string]string{} // and Redis has lost all
	c.mutex.Unlock()
	response, result, err := execute(t, r, http.MethodPost, "/", "", "")
	if err != nil || response.StatusCode != 200 || c.executed.Load() != 2 {
		t.Errorf("a lost session: %s %v", result, err)
	}
	r.mutex.Lock()
	r.versions = nil // as after two seconds
	r.mutex.Unlock()
	before := c.initialized.Load()
	if _, _, err = execute(t, r, http.MethodPost, "/", "", ""); err != nil || c.initialized.Load() != before+1 {
		t.Errorf("no session of the new version was made: %v", err)
	}
}

func TestWhatARegisteredFunctionRefuses(t *testing.T) {
	r, c := registered(t)
	for name, refused := range map[string]struct {
		method, path, body string
		status             int
	}{
		"GET": {"GET", "/", "", 405}, "a path": {"POST", "/x", "", 404}, "no JSON": {"POST", "/", "{", 400},
		"an injected field": {"POST", "/", `1,"context":{}`, 400}, "too large": {"POST", "/", strings.Repeat("1", 1001), 413},
	} {
		if _, _, err := execute(t, r, refused.method, refused.path, refused.body, ""); StatusOf(err) != refused.status {
			t.Errorf("%s: %v", name, err)
		}
	}
	if response, body, err := execute(t, r, "POST", "/", `"throw"`, ""); err != nil || response.StatusCode != 422 || !strings.Contains(body, "it threw") || response.Header.Get(NotStarted) != "" {
		t.Errorf("an error of the script: %v %s %v", response, body, err)
	}
	c.busy = true
	if response, _, err := execute(t, r, "POST", "/", "", ""); err != nil || response.StatusCode != 503 || response.Header.Get(NotStarted) != "true" || response.Header.Get("Retry-After") != "1" {
		t.Errorf("a busy controller: %v %v", response, err)
	}
}
