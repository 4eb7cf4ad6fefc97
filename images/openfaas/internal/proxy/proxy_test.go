package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambda_microservice.platform/images/openfaas/internal/functions"
	"lambda_microservice.platform/images/openfaas/internal/metrics"
)

// gateway leads every name to one function's address.
func gateway(t *testing.T, address string, change func(*functions.Target)) (*httptest.Server, *metrics.Calls) {
	t.Helper()
	at, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	calls := metrics.New()
	server := httptest.NewServer(&Proxy{Transport: NewTransport(), Calls: calls, Margin: 200 * time.Millisecond,
		Target: func(_ context.Context, qualified, user string) (*functions.Target, error) {
			if qualified == "unknown" || qualified == "private" && user != "ada" {
				return nil, functions.Refuse(http.StatusNotFound, "there is no function %s", qualified)
			}
			target := &functions.Target{Name: qualified, Namespace: "openfaas-fn", URL: at, Timeout: 2 * time.Second}
			if change != nil {
				change(target)
			}
			return target, nil
		}})
	t.Cleanup(server.Close)
	return server, calls
}

func function(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL
}

func TestAFunctionIsLookedUpForItsCaller(t *testing.T) {
	server, _ := gateway(t, function(t, func(http.ResponseWriter, *http.Request) {}), nil)
	for user, status := range map[string]int{"ada": 200, "eve": 404, "": 404} {
		request, _ := http.NewRequest(http.MethodPost, server.URL+"/function/private", nil)
		request.Header.Set("X-User-ID", user)
		response, err := http.DefaultClient.Do(request)
		if err != nil || response.StatusCode != status {
			t.Errorf("%q: %v %v", user, response, err)
		}
	}
}

func count(t *testing.T, calls *metrics.Calls, function, code string) float64 {
	t.Helper()
	families, err := calls.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if family.GetName() == "gateway_function_invocation_total" && labels["function_name"] == function && labels["code"] == code {
				return metric.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestHeadersThatTheFunctionGets(t *testing.T) {
	var seen *http.Request
	address := function(t, func(w http.ResponseWriter, r *http.Request) {
		seen = r.Clone(context.Background())
		w.Header().Set(functions.NotStarted, "true") // a lie
	})
	server, calls := gateway(t, address, func(target *functions.Target) { target.Runtime = true })
	request, _ := http.NewRequest(http.MethodPost, server.URL+"/function/echo/a%2Fb//c?x=1;y&z=%zz", strings.NewReader("body"))
	for name, value := range map[string]string{
		"X-Forwarded-For": "9.9.9.9, 10.0.0.1", "X-Forwarded-Host": "edge.example", "X-Forwarded-Proto": "https", "X-User-Id": "ada",
		"X-Caller": "user eve", "X-Account": "user eve", "X-Function": "eve's", "Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if got := seen.URL.EscapedPath() + "?" + seen.URL.RawQuery; got != "/a%2Fb//c?x=1;y&z=%zz" {
		t.Errorf("path and query came as %s", got)
	}
	for name, value := range map[string]string{
		"X-Forwarded-For": "9.9.9.9, 10.0.0.1", "X-Forwarded-Host": "edge.example", "X-Forwarded-Proto": "https",
		"X-Caller": "user ada", "X-Account": "user ada", "Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	} {
		if seen.Header.Get(name) != value {
			t.Errorf("%s came as %q, expected %q", name, seen.Header.Get(name), value)
		}
	}
	if named := seen.Header.Get("X-Function"); named != "" {
		t.Errorf("the caller named the function in the log: %q", named)
	}
	if response.Header.Get("X-Call-Id") == "" || response.Header.Get("X-Call-Id") != seen.Header.Get("X-Call-Id") {
		t.Error("function and caller do not have the same call ID")
	}
	if response.Header.Get(functions.NotStarted) != "" {
		t.Error("a function could say that it has not begun")
	}
	if count(t, calls, "echo.openfaas-fn", "200") != 1 {
		t.Error("the call was not counted")
	}
}

func TestWhoCallsWithoutTheEdgeIsAnAddressWithATraceOfItsOwn(t *testing.T) {
	var seen http.Header
	server, _ := gateway(t, function(t, func(_ http.ResponseWriter, r *http.Request) { seen = r.Header }), func(target *functions.Target) { target.Runtime = true })
	response, err := http.Get(server.URL + "/function/echo")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if seen.Get("X-Account") != "anonymous 127.0.0.1" || seen.Get("X-Caller") != "" || !traceparent.MatchString(seen.Get("Traceparent")) {
		t.Errorf("headers: %v", seen)
	}
}

func TestStreamsBothWaysAtOnce(t *testing.T) {
	address := function(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintln(w, "got "+lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	})
	server, _ := gateway(t, address, nil)
	connection, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(connection, "POST /function/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	answer := bufio.NewReader(connection)
	for _, word := range []string{"one", "two"} {
		fmt.Fprintf(connection, "%x\r\n%s\n\r\n", len(word)+1, word)
		for {
			line, err := answer.ReadString('\n')
			if err != nil {
				t.Fatalf("no answer to %q while the body is still open: %s", word, err)
			}
			if strings.Contains(line, "got "+word) {
				break
			}
		}
	}
}

func TestLargeBodiesAreNotHeld(t *testing.T) {
	const size = 64 << 20
	address := function(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Size", fmt.Sprint(n))
		_, _ = io.CopyN(w, zeros{}, size)
	})
	server, _ := gateway(t, address, func(target *functions.Target) { target.Timeout = time.Minute })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	response, err := http.Post(server.URL+"/function/echo", "", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err != nil || n != size || response.Header.Get("X-Size") != fmt.Sprint(size) {
		t.Errorf("%d bytes came back, %s arrived: %v", n, response.Header.Get("X-Size"), err)
	}
	if runtime.ReadMemStats(&after); after.HeapSys > before.HeapSys+size/2 {
		t.Errorf("the heap grew from %d to %d bytes", before.HeapSys, after.HeapSys)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestAnUpgradedConnectionOutlastsTheTimeout(t *testing.T) {
	address := function(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
		w.Header().Set("Connection", "Upgrade")
		w.WriteHeader(http.StatusSwitchingProtocols)
		connection, both, _ := w.(http.Hijacker).Hijack()
		defer connection.Close()
		_, _ = io.Copy(connection, both)
	})
	server, calls := gateway(t, address, func(target *functions.Target) { target.Timeout = 0 })
	connection, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(connection, "GET /function/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	reader := bufio.NewReader(connection)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("not upgraded: %v %v", response, err)
	}
	time.Sleep(400 * time.Millisecond) // twice what a call may take here
	_, _ = io.WriteString(connection, "ping")
	echo := make([]byte, 4)
	if _, err := io.ReadFull(reader, echo); err != nil || string(echo) != "ping" {
		t.Errorf("the socket gave %q: %v", echo, err)
	}
	_ = connection.Close()
	within(t, func() bool { return count(t, calls, "socket.openfaas-fn", "101") == 1 })
}

func within(t *testing.T, true func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if true() {
			return
		}
	}
	t.Error("did not come true within 5 s")
}

func TestACallerThatGoesAwayEndsTheFunctionsCall(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	server, _ := gateway(t, function(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	}), nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-began; cancel() }()
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/function/slow", nil)
	if _, err := http.DefaultClient.Do(request); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	select {
	case <-ended:
	case <-time.After(time.Second):
		t.Error("the function was not told")
	}
}

func call(t *testing.T, method, address string) (int, http.Header, string) {
	t.Helper()
	request, _ := http.NewRequest(method, address, nil)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(body)
}

func TestFaultsHaveOneClearAnswer(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	raw := func(answer string) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(connection))
				_, _ = io.WriteString(connection, answer)
				_ = connection.Close()
			}
		}()
		return "http://" + listener.Addr().String()
	}
	never := function(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for name, fault := range map[string]struct {
		address, path, says string
		status              int
		notStarted          bool
	}{
		"unknown":         {never, "/function/unknown", "there is no function unknown", 404, true},
		"a wrong name":    {never, "/function/a$b", "expected letters", 400, true},
		"no such Service": {"http://no-such-name.invalid:8080", "/function/f", "has not been called: the name of its Service", 503, true},
		"nobody there":    {closed.URL, "/function/f", "has not been called", 503, true},
		"garbage":         {raw("garbage\r\n\r\n"), "/function/f", "may have run", 502, false},
		"closed early":    {raw(""), "/function/f", "may have run", 502, false},
		"never an answer": {never, "/function/f", "did not end within 500ms", 504, false},
	} {
		server, calls := gateway(t, fault.address, func(target *functions.Target) { target.Timeout = 300 * time.Millisecond })
		status, header, body := call(t, http.MethodPost, server.URL+fault.path)
		if status != fault.status || !strings.Contains(body, fault.says) || (header.Get(functions.NotStarted) == "true") != fault.notStarted {
			t.Errorf("%s: %d, not started %q: %s", name, status, header.Get(functions.NotStarted), body)
		}
		if strings.Contains(body, "127.0.0.1") {
			t.Errorf("%s: an address is in the answer: %s", name, body)
		}
		if fault.path == "/function/f" && count(t, calls, "f.openfaas-fn", fmt.Sprint(fault.status)) != 1 {
			t.Errorf("%s was not counted", name)
		}
	}
}

// net/http sends a GET again by itself when a kept connection breaks before the answer. The function has got it already.
func TestAGetIsNotSentTwice(t *testing.T) {
	var requests atomic.Int32
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				reader := bufio.NewReader(connection)
				for n := 0; n < 2; n++ {
					if _, err := http.ReadRequest(reader); err != nil {
						return
					}
					requests.Add(1)
					if n == 0 {
						_, _ = io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}
			}()
		}
	}()
	server, _ := gateway(t, "http://"+listener.Addr().String(), nil)
	if status, _, body := call(t, http.MethodGet, server.URL+"/function/f"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, body := call(t, http.MethodGet, server.URL+"/function/f"); status != 502 {
		t.Errorf("%d %s", status, body)
	}
	if requests.Load() != 2 {
		t.Errorf("the function got %d requests for 2 calls", requests.Load())
	}
}

func TestACallThatWasNotSentIsTriedAgain(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	go func() { // while the second attempt waits
		time.Sleep(50 * time.Millisecond)
		again, err := net.Listen("tcp", address)
		if err != nil {
			return
		}
		_ = http.Serve(again, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	}()
	server, _ := gateway(t, "http://"+address, nil)
	response, err := http.Post(server.URL+"/function/f", "", strings.NewReader("the body is whole"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); string(body) != "the body is whole" {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestAnAnswerThatBreaksOffIsNotPassedOffAsWhole(t *testing.T) {
	server, _ := gateway(t, function(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}), func(target *functions.Target) { target.Timeout = 100 * time.Millisecond })
	response, err := http.Get(server.URL + "/function/f")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("%q came as if it were all", body)
	}
}

func TestASleepingFunctionIsWokenBeforeItIsCalled(t *testing.T) {
	var woken atomic.Bool
	server, _ := gateway(t, function(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, woken.Load()) }), func(target *functions.Target) {
		target.Wake = func(context.Context) error { woken.Store(true); return nil }
	})
	if _, _, body := call(t, http.MethodGet, server.URL+"/function/f"); body != "true" {
		t.Errorf("called before it was woken: %s", body)
	}
}

// Two thousand callers of a function that sleeps all wait for it, none is told to come again, and each gets its own answer.
func TestTwoThousandCallsToASleepingFunctionAllWait(t *testing.T) {
	const callers = 2000
	awake := make(chan struct{})
	var waiting atomic.Int32
	server, calls := gateway(t, function(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }), func(target *functions.Target) {
		target.Timeout = time.Minute
		target.Wake = func(ctx context.Context) error {
			if waiting.Add(1) == callers {
				close(awake)
			}
			select {
			case <-awake:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	var ended sync.WaitGroup
	var wrong atomic.Int32
	for n := range callers {
		ended.Go(func() {
			response, err := client.Post(server.URL+"/function/f", "", strings.NewReader(fmt.Sprint(n)))
			if err != nil {
				wrong.Add(1)
				return
			}
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 || string(body) != fmt.Sprint(n) {
				wrong.Add(1)
			}
		})
	}
	ended.Wait()
	if wrong.Load() != 0 || count(t, calls, "f.openfaas-fn", "200") != callers {
		t.Errorf("%d of %d calls went wrong", wrong.Load(), callers)
	}
}

// A gateway in a process of its own, which TestAGatewayThatIsKilled kills.
func TestMain(m *testing.M) {
	at := os.Getenv("TEST_GATEWAY_OF")
	if at == "" {
		os.Exit(m.Run())
	}
	function, _ := url.Parse(at)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	panic(http.Serve(listener, &Proxy{Transport: NewTransport(), Calls: metrics.New(), Target: func(_ context.Context, name, _ string) (*functions.Target, error) {
		return &functions.Target{Name: name, Namespace: "openfaas-fn", URL: function, Timeout: time.Minute}, nil
	}}))
}

// Whoever reads a stream sees that it broke off, and the function learns that nobody reads any more.
func TestAGatewayThatIsKilledInAStream(t *testing.T) {
	gone := make(chan struct{})
	address := function(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), "TEST_GATEWAY_OF="+address)
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Wait() }()
	defer func() { _ = process.Process.Kill() }()
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://" + strings.TrimSpace(line) + "/function/f")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	begun := make([]byte, 4)
	if _, err := io.ReadFull(response.Body, begun); err != nil || string(begun) != "half" {
		t.Fatalf("%q %v", begun, err)
	}
	_ = process.Process.Kill()
	if rest, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("%q came as if it were all", rest)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Error("the function goes on for a caller that nobody leads to it any more")
	}
}

// Through the gateway and directly, by turns, so that the machine's own ups and downs are in both. It is measured with
// go test -bench Added: no bound is asserted, as other work of the machine would decide.
func BenchmarkAddedLatency(b *testing.B) {
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	defer function.Close()
	at, _ := url.Parse(function.URL)
	slog.SetDefault(slog.New(slog.NewJSONHandler(io.Discard, nil)))
	server := httptest.NewServer(&Proxy{Transport: NewTransport(), Calls: metrics.New(), Target: func(context.Context, string, string) (*functions.Target, error) {
		return &functions.Target{Name: "f", Namespace: "fn", URL: at, Timeout: 10 * time.Second}, nil
	}})
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for _, address := range []string{function.URL, server.URL + "/function/f"} {
			began := time.Now()
			response, err := client.Post(address, "application/json", strings.NewReader(`{"name":"world"}`))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
			times[address] = append(times[address], time.Since(began))
		}
	}
	for _, quantile := range []float64{0.5, 0.99} {
		at := func(address string) float64 {
			slices.Sort(times[address])
			return float64(times[address][int(float64(len(times[address])-1)*quantile)].Microseconds())
		}
		b.ReportMetric(at(server.URL+"/function/f")-at(function.URL), fmt.Sprintf("µs-added-p%g", quantile*100))
	}
}
