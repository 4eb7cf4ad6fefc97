package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A gateway that refuses one call and knows the ends of two of the others.
func TestACallIsStoredIfItsEndIsKnown(t *testing.T) {
	var mutex sync.Mutex
	owners := map[string]string{}
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mutex.Lock()
		defer mutex.Unlock()
		user := r.Header.Get("X-User-Id")
		if r.Method == http.MethodPost {
			if len(owners) == 3 {
				http.Error(w, "the queue is away", http.StatusServiceUnavailable)
				return
			}
			id := fmt.Sprint("call-", len(owners))
			owners[id] = user
			w.Header().Set("X-Call-Id", id)
			w.WriteHeader(http.StatusAccepted)
			return
		}
		id := strings.TrimPrefix(r.URL.Path, "/async-function/")
		states := map[string]string{"call-0": `{"state": "done"}`, "call-1": `{"state": "dead", "reason": "the worker was lost"}`}
		if owners[id] != user || states[id] == "" {
			http.Error(w, "there is no call "+id, http.StatusNotFound)
			return
		}
		fmt.Fprint(w, states[id])
	}))
	defer gateway.Close()
	address, _ := url.Parse(strings.Replace(gateway.URL, "http", "openfaas", 1))
	made, err := newCalls(address, options{output: filepath.Join(t.TempDir(), "results.csv")})
	if err != nil {
		t.Fatal(err)
	}
	calls := made.(*callStore)
	calls.within = 0
	for _, seq := range []string{"5", "6", "7", "8"} {
		if err := calls.write(t.Context(), "run", seq); (err != nil) != (seq == "8") {
			t.Errorf("%s: %v", seq, err)
		}
	}
	found := map[uint64]bool{}
	if err := calls.stored(t.Context(), "run", 9, func(seq uint64) { found[seq] = true }); err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 || !found[5] || !found[6] {
		t.Errorf("%v", found)
	}
}
