package async

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"lambda_microservice.platform/images/openfaas/internal/functions"
	"lambda_microservice.platform/images/openfaas/internal/metrics"
	"lambda_microservice.platform/images/openfaas/internal/proxy"
)

// A platform is a real NATS server with JetStream, the gateway's two paths, and functions.
type platform struct {
	t           *testing.T
	nats        *server.Server
	options     *server.Options
	store       *Store
	queue       *Queue
	gateway     *httptest.Server
	annotations map[string]string
	handle      http.HandlerFunc
	patience    time.Duration
	timeout     time.Duration
}

func newPlatform(t *testing.T, handle http.HandlerFunc) *platform {
	t.Helper()
	p := &platform{t: t, handle: handle, annotations: map[string]string{}, patience: time.Minute, timeout: time.Second}
	p.options = &server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true, MaxPayload: maxMessage}
	p.startNATS()
	t.Cleanup(func() { p.stopNATS() })
	p.store = p.connect()

	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.handle(w, r) }))
	t.Cleanup(function.Close)
	at, _ := url.Parse(function.URL)
	target := func(_ context.Context, qualified, user string) (*functions.Target, error) {
		name, _, _ := strings.Cut(qualified, ".")
		if name == "unknown" || name == "private" && user != "ada" {
			return nil, functions.Refuse(http.StatusNotFound, "there is no function %s", name)
		}
		address := at
		if name == "away" {
			address, _ = url.Parse("http://127.0.0.1:1")
		}
		return &functions.Target{Name: name, Namespace: "fn", URL: address, Timeout: p.timeout, Annotations: p.annotations}, nil
	}
	calls := metrics.New()
	callbacks := NewCallbacks([]string{"127.0.0.1", "localhost", "169.254.169.254"}, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	p.queue = &Queue{Store: p.store, Target: target, Callbacks: callbacks, Calls: calls}
	direct := &proxy.Proxy{Target: target, Transport: proxy.NewTransport(), Calls: calls, Margin: 200 * time.Millisecond}
	p.gateway = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/async-function/") {
			p.queue.ServeHTTP(w, r)
		} else {
			direct.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(p.gateway.Close)
	return p
}

func (p *platform) startNATS() {
	p.t.Helper()
	var err error
	if p.nats, err = server.NewServer(p.options); err != nil {
		p.t.Fatal(err)
	}
	p.nats.Start()
	if !p.nats.ReadyForConnections(10 * time.Second) {
		p.t.Fatal("NATS does not start")
	}
	p.options.Port = p.nats.Addr().(*net.TCPAddr).Port // the same after a restart
}

func (p *platform) stopNATS() {
	p.nats.Shutdown()
	p.nats.WaitForShutdown()
}

func (p *platform) connect() *Store {
	p.t.Helper()
	store, err := Connect(p.t.Context(), Options{URL: p.nats.ClientURL(), Replicas: 1, AckWait: time.Second}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(store.Close)
	select {
	case <-store.ready:
	case <-time.After(20 * time.Second):
		p.t.Fatal("NATS is not ready")
	}
	return store
}

// work starts a worker; kill ends it as a lost machine would: its connections break, and nothing is told any more.
func (p *platform) work() (kill, stop func()) {
	p.t.Helper()
	store := p.connect()
	transport := &http.Transport{}
	ctx, cancel := context.WithCancel(context.Background())
	worker := &Worker{
		Store: store, Gateway: parsed(p.gateway.URL), Transport: transport, Callbacks: p.queue.Callbacks, Concurrency: 8,
		Margin: 500 * time.Millisecond, Patience: p.patience, Outcomes: metrics.New().Async,
	}
	done := make(chan struct{})
	go func() { defer close(done); worker.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	p.t.Cleanup(func() { cancel() })
	return func() { store.Close(); cancel() }, stop
}

func parsed(text string) *url.URL {
	address, err := url.Parse(text)
	if err != nil {
		panic(err)
	}
	return address
}

func (p *platform) send(name, body string, header ...string) (id string, status int, text string) {
	p.t.Helper()
	request, _ := http.NewRequest(http.MethodPost, p.gateway.URL+"/async-function/"+name, strings.NewReader(body))
	for n := 0; n < len(header); n += 2 {
		request.Header.Set(header[n], header[n+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	content, _ := io.ReadAll(response.Body)
	return response.Header.Get("X-Call-Id"), response.StatusCode, string(content)
}

func (p *platform) accepted(name, body string, header ...string) string {
	p.t.Helper()
	id, status, text := p.send(name, body, header...)
	if status != http.StatusAccepted || !callID.MatchString(id) {
		p.t.Fatalf("not accepted: %d %q %s", status, id, text)
	}
	return id
}

func (p *platform) state(id string, header ...string) (state State, status int) {
	p.t.Helper()
	request, _ := http.NewRequest(http.MethodGet, p.gateway.URL+"/async-function/"+id, nil)
	for n := 0; n < len(header); n += 2 {
		request.Header.Set(header[n], header[n+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusOK {
		if err := json.NewDecoder(response.Body).Decode(&state); err != nil {
			p.t.Fatal(err)
		}
	}
	return state, response.StatusCode
}

func (p *platform) ends(id, as string) State {
	p.t.Helper()
	var last State
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if last, _ = p.state(id); last.State == as {
			return last
		}
	}
	p.t.Fatalf("the call is %+v, expected %s", last, as)
	return last
}

func TestACallRunsOnceAndItsResultIsKeptAndSent(t *testing.T) {
	p := newPlatform(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/x-test")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.RequestURI(), body)
	})
	results := make(chan *http.Request, 2)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		results <- r
	}))
	defer receiver.Close()
	id := p.accepted("hello/a/b?c=d", "body", "X-Callback-Url", receiver.URL, "X-User-Id", "ada")
	if state, status := p.state(id, "X-User-Id", "ada"); status != 200 || state.State != Queued || state.Function != "hello.fn" {
		t.Errorf("before a worker is there: %d %+v", status, state)
	}
	p.work()
	var got *http.Request
	select {
	case got = <-results:
	case <-time.After(10 * time.Second):
		t.Fatal("no result came")
	}
	body, _ := io.ReadAll(got.Body)
	if string(body) != "POST /a/b?c=d body" || got.Header.Get("Content-Type") != "text/x-test" {
		t.Errorf("the receiver got %q, %v", body, got.Header)
	}
	if got.Header.Get("X-Call-Id") != id || got.Header.Get("X-Function-Status") != "201" || got.Header.Get("X-Function-Name") != "hello" || got.Header.Get("X-Duration-Seconds") == "" {
		t.Errorf("the receiver got %v", got.Header)
	}
	if _, status := p.state(id, "X-User-Id", "eve"); status != 404 {
		t.Errorf("somebody else's call can be seen: %d", status)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		state, _ := p.state(id, "X-User-Id", "ada")
		if state.Callback == "delivered" && state.State == Done && state.Status == 201 && string(state.Body) == string(body) && state.Attempts == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", state)
		}
	}
}

func TestWhatIsRefusedIsNotStored(t *testing.T) {
	p := newPlatform(t, func(http.ResponseWriter, *http.Request) {})
	for name, refused := range map[string]struct {
		function, body, callback string
		status                   int
	}{
		"unknown":             {"unknown", "", "", 404},
		"too large":           {"f", strings.Repeat("x", MaxBody+1), "", 413},
		"a host not allowed":  {"f", "", "https://example.com/x", 400},
		"the cloud's secrets": {"f", "", "http://169.254.169.254/latest/meta-data", 400},
		"a file":              {"f", "", "file:///etc/passwd", 400},
	} {
		if _, status, text := p.send(refused.function, refused.body, "X-Callback-Url", refused.callback); status != refused.status {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	p.accepted("f", strings.Repeat("x", MaxBody))
	p.stopNATS()
	began := time.Now()
	if _, status, text := p.send("f", ""); status != http.StatusServiceUnavailable || time.Since(began) > storeTimeout+time.Second {
		t.Errorf("without NATS: %d %s after %s", status, text, time.Since(began))
	}
	p.startNATS()
	p.store = p.connect()
	stream, err := p.store.jet.Stream(t.Context(), streamCalls)
	if err != nil {
		t.Fatal(err)
	}
	if stored := stream.CachedInfo().State.Msgs; stored != 1 {
		t.Errorf("%d calls are stored, one was accepted", stored)
	}
}

func TestACallbackLeadsNowhereIntoTheCluster(t *testing.T) {
	c := NewCallbacks([]string{"localhost", "metadata.example", "*.example.org"}, nil)
	for _, text := range []string{"http://10.0.0.1/", "http://controller.controller.svc/", "http://kubernetes.default/", "http://user@a.example.org/", "http://example.org/", "http://aexample.org"} {
		if c.Allow(parsed(text)) == nil {
			t.Errorf("%s is allowed", text)
		}
	}
	if err := c.Allow(parsed("https://a.example.org/x")); err != nil {
		t.Error(err)
	}
	// The name is allowed, its address is not.
	reached := false
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer receiver.Close()
	err := c.send(t.Context(), parsed(strings.Replace(receiver.URL, "127.0.0.1", "localhost", 1)), http.Header{}, nil)
	if err == nil || reached {
		t.Errorf("a name led to an address of this machine: %v", err)
	}
	for _, address := range []string{"169.254.169.254", "fd00:ec2::254", "::ffff:10.0.0.1", "127.0.0.1", "::1", "100.64.0.1", "0.0.0.0", "fe80::1", "172.20.0.1"} {
		if c.allowAddress(netip.MustParseAddr(address)) == nil {
			t.Errorf("%s is allowed", address)
		}
	}
	open := NewCallbacks(nil, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")})
	if open.allowAddress(netip.MustParseAddr("169.254.169.254")) == nil {
		t.Error("the inventory can open the cloud's metadata")
	}
}

func TestAKilledWorkersCallIsADeadLetterAndCanBeSentAgain(t *testing.T) {
	var runs atomic.Int32
	began := make(chan struct{}, 10)
	p := newPlatform(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not notice that the caller has gone
		runs.Add(1)
		began <- struct{}{}
		if r.Header.Get("X-Slow") != "" && runs.Load() == 1 {
			<-r.Context().Done()
		}
	})
	kill, _ := p.work()
	id := p.accepted("f", "x", "X-Slow", "yes")
	<-began
	kill()
	p.work()
	state := p.ends(id, Dead)
	if runs.Load() != 1 || !strings.Contains(state.Reason, "may have run") {
		t.Errorf("%d runs, %+v", runs.Load(), state)
	}
	var letters []DeadLetter
	for end := time.Now().Add(5 * time.Second); len(letters) == 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		letters, _ = p.queue.DeadLetters(t.Context())
	}
	if len(letters) != 1 || letters[0].CallID != id || letters[0].Function != "f.fn" {
		t.Fatalf("%+v", letters)
	}
	if err := p.queue.Dead(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	p.ends(id, Done)
	if runs.Load() != 2 {
		t.Errorf("%d runs", runs.Load())
	}
	if letters, _ = p.queue.DeadLetters(t.Context()); len(letters) != 0 {
		t.Errorf("%+v", letters)
	}
	if err := p.queue.Dead(t.Context(), id, true); functions.StatusOf(err) != http.StatusNotFound {
		t.Errorf("sent twice: %v", err)
	}
}

func TestARetriedCallOfAKilledWorkerRunsAgain(t *testing.T) {
	var runs atomic.Int32
	began := make(chan struct{}, 10)
	p := newPlatform(t, func(_ http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		if runs.Add(1) == 1 {
			<-r.Context().Done()
		}
	})
	p.annotations[functions.RetryAttempts] = "2"
	kill, _ := p.work()
	id := p.accepted("f", "")
	<-began
	kill()
	p.work()
	if state := p.ends(id, Done); state.Attempts != 2 || runs.Load() != 2 {
		t.Errorf("%d runs, %+v", runs.Load(), state)
	}
}

func TestFailuresAreRetriedOnlyWhereTheAnnotationSaysSo(t *testing.T) {
	var runs atomic.Int32
	p := newPlatform(t, func(w http.ResponseWriter, r *http.Request) {
		runs.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "no luck")
	})
	p.work()
	if state := p.ends(p.accepted("f", ""), Done); state.Status != 503 || string(state.Body) != "no luck" || runs.Load() != 1 {
		t.Errorf("without the annotation: %d runs, %+v", runs.Load(), state)
	}
	runs.Store(0)
	p.annotations = map[string]string{functions.RetryAttempts: "3", functions.RetryMinWait: "50ms", functions.RetryCodes: "500,503"}
	if state := p.ends(p.accepted("f", ""), Dead); !strings.Contains(state.Reason, "3 attempts failed, the last one: status 503, no luck") || runs.Load() != 3 {
		t.Errorf("with it: %d runs, %+v", runs.Load(), state)
	}
	runs.Store(0)
	p.annotations[functions.RetryCodes] = "500"
	if state := p.ends(p.accepted("f", ""), Done); state.Status != 503 || runs.Load() != 1 {
		t.Errorf("a code that is not to be retried: %d runs, %+v", runs.Load(), state)
	}
}

func TestACallThatCannotBeginIsTriedUntilPatienceEnds(t *testing.T) {
	p := newPlatform(t, func(http.ResponseWriter, *http.Request) {})
	p.patience = 1500 * time.Millisecond
	p.work()
	if state := p.ends(p.accepted("away", ""), Dead); state.Attempts != 0 || !strings.Contains(state.Reason, "could not be called") {
		t.Errorf("%+v", state)
	}
}

func TestNoCallIsLostWhenNATSAndAWorkerGoUnderLoad(t *testing.T) {
	var mutex sync.Mutex
	runs := map[string]int{}
	p := newPlatform(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mutex.Lock()
		runs[string(body)]++
		mutex.Unlock()
		time.Sleep(20 * time.Millisecond)
	})
	kill, _ := p.work()
	p.work()
	calls := map[string]string{}
	refused := 0
	for n := range 300 {
		switch n {
		case 100:
			kill()
			p.work()
		case 200:
			p.stopNATS()
			go func() { time.Sleep(300 * time.Millisecond); p.startNATS() }()
		}
		body := fmt.Sprint(n)
		id, status, _ := p.send("f", body, "X-User-Id", fmt.Sprint("user", n%5))
		if status == http.StatusAccepted {
			calls[id] = body
		} else {
			refused++
			time.Sleep(50 * time.Millisecond)
		}
	}
	done, dead := 0, 0
	for id, body := range calls {
		var state State
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			var number int
			fmt.Sscan(body, &number)
			if state, _ = p.state(id, "X-User-Id", fmt.Sprint("user", number%5)); state.State == Done || state.State == Dead {
				break
			}
		}
		mutex.Lock()
		times := runs[body]
		mutex.Unlock()
		switch {
		case state.State == Done && times == 1:
			done++
		case state.State == Dead && times <= 1 && strings.Contains(state.Reason, "may have run"):
			dead++
		default:
			t.Errorf("call %s ran %d times and is %+v", body, times, state)
		}
	}
	t.Logf("%d accepted, %d refused, %d done, %d dead letters", len(calls), refused, done, dead)
	if len(calls) < 200 || dead > 8 { // what one worker had under way
		t.Errorf("%d accepted, %d dead", len(calls), dead)
	}
}

func TestMaxInflightHoldsOverAllWorkers(t *testing.T) {
	var now, most, runs atomic.Int32
	p := newPlatform(t, func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for {
			seen := most.Load()
			if n <= seen || most.CompareAndSwap(seen, n) {
				break
			}
		}
		time.Sleep(50 * time.Millisecond)
		now.Add(-1)
		runs.Add(1)
	})
	p.annotations[functions.MaxInflight] = "2"
	p.work()
	p.work()
	var ids []string
	for n := range 20 {
		ids = append(ids, p.accepted("f", "", "X-Forwarded-For", fmt.Sprintf("10.0.0.%d", n)))
	}
	for _, id := range ids {
		p.ends(id, Done)
	}
	if most.Load() != 2 || runs.Load() != 20 {
		t.Errorf("%d at once, %d runs", most.Load(), runs.Load())
	}
}

func TestACallerOfThousandsDoesNotHoldUpAnother(t *testing.T) {
	var greedy atomic.Int32
	p := newPlatform(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-User-Id") == "greedy" {
			greedy.Add(1)
		}
		time.Sleep(20 * time.Millisecond)
	})
	for range 400 {
		p.accepted("f", "", "X-User-Id", "greedy")
	}
	other := "modest"
	if laneOf("user "+other) == laneOf("user greedy") {
		other = "humble"
	}
	id := p.accepted("f", "", "X-User-Id", other)
	p.work()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if state, _ := p.state(id, "X-User-Id", other); state.State == Done {
			break
		}
	}
	if before := greedy.Load(); before > 100 {
		t.Errorf("%d of the other's 400 calls came first", before)
	}
}

func TestAStoppedWorkerEndsWhatItHasBegun(t *testing.T) {
	began := make(chan struct{})
	p := newPlatform(t, func(w http.ResponseWriter, _ *http.Request) {
		close(began)
		time.Sleep(500 * time.Millisecond)
		fmt.Fprint(w, "whole")
	})
	_, stop := p.work()
	id := p.accepted("f", "")
	<-began
	stop()
	if state, _ := p.state(id); state.State != Done || string(state.Body) != "whole" {
		t.Errorf("%+v", state)
	}
}

func TestAScheduledRunIsStoredOnce(t *testing.T) {
	p := newPlatform(t, func(http.ResponseWriter, *http.Request) {})
	target, _ := p.queue.Target(t.Context(), "f", "")
	at := time.Now().Truncate(time.Minute)
	for range 3 { // gateways
		if err := p.queue.Cron(t.Context(), target, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.queue.Cron(t.Context(), target, at.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	stream, err := p.store.jet.Stream(t.Context(), streamCalls)
	if err != nil {
		t.Fatal(err)
	}
	if stored := stream.CachedInfo().State.Msgs; stored != 2 {
		t.Errorf("%d runs are stored for 2 minutes", stored)
	}
}

// An earlier version had a consumer for each subject, and calls in all of them.
func TestCallsOfEightLanesAreMadeByFour(t *testing.T) {
	var runs atomic.Int32
	p := newPlatform(t, func(http.ResponseWriter, *http.Request) { runs.Add(1) })
	for lane := range lanes {
		if err := p.store.jet.DeleteConsumer(t.Context(), streamCalls, laneName(lane)); err != nil {
			t.Fatal(err)
		}
	}
	for subject := range subjects {
		if _, err := p.store.jet.CreateOrUpdateConsumer(t.Context(), streamCalls, jetstream.ConsumerConfig{
			Durable: fmt.Sprintf("lane-%02d", subject), FilterSubject: subjectName(subject), AckPolicy: jetstream.AckExplicitPolicy,
		}); err != nil {
			t.Fatal(err)
		}
	}
	seen, ids := map[int]bool{}, map[string]string{}
	for n := 0; len(seen) < subjects; n++ {
		user := fmt.Sprint("user", n)
		seen[subjectOf("user "+user)] = true
		ids[p.accepted("f", "", "X-User-Id", user)] = user
	}
	p.work() // of the new version, which connects as a new gateway does
	for id, user := range ids {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			if state, _ := p.state(id, "X-User-Id", user); state.State == Done {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the call of %s waits in lane %d", user, subjectOf("user "+user))
			}
		}
	}
	if int(runs.Load()) != len(ids) {
		t.Errorf("%d runs of %d calls", runs.Load(), len(ids))
	}
}
