package main

import (
	"context"
	"encoding/csv"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// attackFor runs an attack for a while, as a drill does, and gives its records.
func attackFor(t *testing.T, duration time.Duration, args ...string) [][]string {
	t.Helper()
	output := filepath.Join(t.TempDir(), "results.csv")
	ended := make(chan error, 1)
	go func() {
		ended <- run(append([]string{"attack", "-output", output, "-rate", "200", "-timeout", "500ms"}, args...))
	}()
	time.Sleep(duration)
	syscall.Kill(os.Getpid(), syscall.SIGINT)
	select {
	case err := <-ended:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the attack did not end")
	}
	file, err := os.Open(output)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	records, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func acknowledged(records [][]string) (count int) {
	for _, record := range records {
		if record[5] == "" {
			count++
		}
	}
	return
}

// redisServer starts a real one.
func redisServer(t *testing.T, options ...string) (address string, process *os.Process) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	server := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if len(options) > 0 {
		server.Args = append(append(server.Args, "--port", "0", "--tls-port", port), options...)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	return address, server.Process
}

func printed(t *testing.T, args ...string) string {
	t.Helper()
	read, write, _ := os.Pipe()
	saved := os.Stdout
	os.Stdout = write
	err := run(args)
	os.Stdout = saved
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(read)
	return string(text)
}

func TestWhatRedisAcknowledgedIsFoundAgain(t *testing.T) {
	address, _ := redisServer(t)
	target := fmt.Sprintf(`{"method": "PUT", "url": "redis://%s"}`, address)
	records := attackFor(t, 2*time.Second, "-name", "one", "-confirm-replicas", "0", target)
	if n := acknowledged(records); n < 200 || n != len(records) {
		t.Fatalf("%d of %d writes were acknowledged", n, len(records))
	}
	count := fmt.Sprint(len(records))
	if n := strings.Count(printed(t, "stored", "-name", "one", "-count", count, target), "\n"); n != len(records) {
		t.Fatalf("%d of %s are stored", n, count)
	}
	if found := printed(t, "stored", "-name", "other", "-count", count, target); found != "" {
		t.Fatal("another run's writes are found: " + found)
	}
	printed(t, "forget", "-name", "one", "-count", count, target)
	if found := printed(t, "stored", "-name", "one", "-count", count, target); found != "" {
		t.Fatal("forgotten writes are found: " + found)
	}
}

func TestARedisWithTLSIsCheckedAndItsPasswordReadAtEachConnection(t *testing.T) {
	folder := t.TempDir()
	certificate := func(name string) string {
		made := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
			"/CN=redis", "-addext", "subjectAltName=DNS:localhost", "-keyout", name+".key", "-out", name+".crt")
		made.Dir = folder
		if said, err := made.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		return filepath.Join(folder, name)
	}
	right, wrong := certificate("right"), certificate("wrong")
	address, _ := redisServer(t, "--tls-cert-file", right+".crt", "--tls-key-file", right+".key", "--tls-ca-cert-file", right+".crt",
		"--tls-auth-clients", "no", "--user", "drill", "on", ">first", ">second", "~*", "+@all", "--user", "default", "off")
	_, port, _ := net.SplitHostPort(address)
	for _, given := range []struct {
		authority, password string
		served              bool
	}{{right, "first", true}, {right, "second", true}, {right, "third", false}, {wrong, "first", false}} {
		for name, content := range map[string]string{"username": "drill", "password": given.password} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		target, _ := url.Parse(fmt.Sprintf("rediss://localhost:%s?cacert=%s.crt", port, given.authority))
		made, err := newRedis(target, options{credentials: folder})
		if err != nil {
			t.Fatal(err)
		}
		for range 50 { // until it listens
			if err = made.(*redisStore).client.Ping(context.Background()).Err(); err == nil || !given.served {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if (err == nil) != given.served {
			t.Fatalf("%s, %s: %v", filepath.Base(given.authority), given.password, err)
		}
	}
	if _, err := newRedis(&url.URL{Scheme: "rediss", Host: "localhost:1"}, options{}); err == nil {
		t.Fatal("without an authority a server would be believed whose certificate nobody has checked")
	}
}

func TestAWriteThatReachesNoReplicaIsNotAcknowledged(t *testing.T) {
	address, _ := redisServer(t)
	records := attackFor(t, 2*time.Second, fmt.Sprintf(`{"method": "PUT", "url": "redis://%s"}`, address))
	if n := acknowledged(records); n != 0 || len(records) == 0 {
		t.Fatalf("%d of %d writes were acknowledged", n, len(records))
	}
}

func TestAnOutageIsRecordedAndOver(t *testing.T) {
	address, process := redisServer(t)
	go func() {
		time.Sleep(time.Second)
		process.Signal(syscall.SIGSTOP)
		time.Sleep(time.Second)
		process.Signal(syscall.SIGCONT)
	}()
	target := fmt.Sprintf(`{"method": "PUT", "url": "redis://%s"}`, address)
	records := attackFor(t, 4*time.Second, "-confirm-replicas", "0", target)
	failed := len(records) - acknowledged(records)
	if failed < 20 || failed > 400 {
		t.Fatalf("%d of %d writes failed in an outage of a second", failed, len(records))
	}
	if last := records[len(records)-1]; last[5] != "" {
		t.Fatal("the last write failed: " + last[5])
	}
}

func TestHTTPSWithAnAuthorityOfOnesOwn(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Header.Get("X-User-ID") == "" {
			w.WriteHeader(http.StatusBadRequest)
		} else if asked.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, "said")
	}))
	defer server.Close()
	folder := t.TempDir()
	authority, targets := filepath.Join(folder, "ca.crt"), filepath.Join(folder, "targets")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	lines := ""
	for user := range 2 {
		lines += fmt.Sprintf(`{"method": "POST", "url": "%s/x", "header": {"X-User-ID": ["%d"]}}`+"\n", server.URL, user)
	}
	if os.WriteFile(authority, certificate, 0o600) != nil || os.WriteFile(targets, []byte(lines), 0o600) != nil {
		t.Fatal("no files")
	}
	records := attackFor(t, time.Second, "-root-certs", authority, "@"+targets)
	for _, record := range records {
		if record[6] != "c2FpZA==" || (record[1] == "200") != (record[5] == "") {
			t.Fatalf("wrong record %v", record)
		}
	}
	if n := acknowledged(records); n < len(records)/2-1 || n > len(records)/2+1 {
		t.Fatalf("%d of %d were acknowledged, half of them was answered with 200", n, len(records))
	}
	for _, record := range attackFor(t, 200*time.Millisecond, "@"+targets) {
		if !strings.Contains(record[5], "certificate") {
			t.Fatalf("a server of an unknown authority was trusted: %v", record)
		}
	}
}

func TestWrongTargetsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{}, {"attack"}, {"attack", "not json"}, {"fly", `{"method": "PUT", "url": "redis://localhost:1"}`},
		{"stored", `{"method": "GET", "url": "https://localhost"}`}, {"attack", "@/nowhere"},
	} {
		if run(args) == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
