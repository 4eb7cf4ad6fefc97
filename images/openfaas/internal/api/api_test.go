package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/openfaas/faas-provider/auth"
	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"lambda_microservice.platform/images/openfaas/internal/containers"
	"lambda_microservice.platform/images/openfaas/internal/functions"
	"lambda_microservice.platform/images/openfaas/internal/metrics"
	"lambda_microservice.platform/images/openfaas/internal/proxy"
)

// A client asks as faas-cli does: its paths, methods and bodies, and basic auth on each request.
type client struct {
	t      *testing.T
	server *httptest.Server
}

func (c client) do(method, path string, body any) (int, http.Header, string) {
	c.t.Helper()
	content := ""
	if text, ok := body.(string); ok {
		content = text
	} else if body != nil {
		encoded, _ := json.Marshal(body)
		content = string(encoded)
	}
	request, _ := http.NewRequest(method, c.server.URL+path, strings.NewReader(content))
	request.SetBasicAuth("admin", "s3cret")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, string(answer)
}

func (c client) expect(status int, method, path string, body any) string {
	c.t.Helper()
	got, _, text := c.do(method, path, body)
	if got != status {
		c.t.Errorf("%s %s: %d, expected %d: %s", method, path, got, status, text)
	}
	return text
}

func start(t *testing.T) client {
	t.Helper()
	labels := map[string]string{"app.kubernetes.io/name": "python-runtime", "app.kubernetes.io/component": "runtime"}
	kubernetes := fake.NewClientset(
		&appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "python-runtime", Namespace: "openfaas-fn", Labels: labels},
			Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Replicas: new(int32(3)),
				Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "runtime", Image: "runtime-python:1"}}}}},
			Status: appsv1.DeploymentStatus{AvailableReplicas: 3},
		},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "python-runtime-1", Namespace: "openfaas-fn", Labels: labels}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "python-runtime-2", Namespace: "openfaas-fn", Labels: labels}},
	)
	function := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ran "+r.URL.Path) }))
	t.Cleanup(function.Close)
	address := func(string, string) *url.URL { at, _ := url.Parse(function.URL); return at }
	deployed := containers.NewContainers(kubernetes, []string{"openfaas-fn", "team"}, containers.Settings{
		Memory: resource.MustParse("256Mi"), CPU: resource.MustParse("50m"), Timeout: time.Second, MaxTimeout: time.Second, User: 10001,
	}, address)
	deployed.Start(t.Context())
	for !deployed.Synced() {
		time.Sleep(5 * time.Millisecond)
	}
	catalogue := &functions.Catalogue{Namespaces: []string{"openfaas-fn", "team"}, Containers: deployed, Sources: []functions.Source{
		&containers.Runtimes{Namespace: "openfaas-fn", Names: []string{"python-runtime"}, Timeout: time.Second, Address: address, Deployment: deployed.Deployment},
		// A controller that is away.
		&functions.Registered{Controller: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Namespace: "openfaas-fn", Client: http.DefaultTransport},
	}}
	calls := metrics.New(metrics.Replicas(deployed.Replicas))
	a := &API{
		Catalogue: catalogue, Containers: deployed, Credentials: &auth.BasicAuthCredentials{User: "admin", Password: "s3cret"}, Version: "1.2.3", LogsTimeout: time.Second,
		Proxy: &proxy.Proxy{Target: catalogue.Target, Transport: proxy.NewTransport(), Calls: calls},
	}
	server := httptest.NewServer(a.Handler())
	t.Cleanup(server.Close)
	return client{t, server}
}

func TestEverythingBelowSystemNeedsTheCredentials(t *testing.T) {
	c := start(t)
	for _, path := range []string{"/system/functions", "/system/info", "/system/namespaces", "/system/secrets", "/system/logs?name=x", "/system/dead-letters", "/system/none"} {
		for _, user := range []string{"", "admin:wrong", "root:s3cret"} {
			request, _ := http.NewRequest(http.MethodGet, c.server.URL+path, nil)
			if name, password, ok := strings.Cut(user, ":"); ok {
				request.SetBasicAuth(name, password)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusUnauthorized || response.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s as %q: %d", path, user, response.StatusCode)
			}
		}
	}
	for _, path := range []string{"/healthz", "/function/python-runtime"} {
		response, err := http.Get(c.server.URL + path)
		if err != nil || response.StatusCode != 200 {
			t.Errorf("%s without credentials: %v %v", path, response, err)
		}
	}
}

func TestFaasCLIsRequests(t *testing.T) {
	c := start(t)
	var info struct {
		Provider types.ProviderInfo `json:"provider"`
		Version  types.VersionInfo  `json:"version"`
	}
	if err := json.Unmarshal([]byte(c.expect(200, "GET", "/system/info", nil)), &info); err != nil || info.Version.Release != "1.2.3" || info.Provider.Orchestration != "kubernetes" || info.Provider.Version == nil {
		t.Errorf("%+v %v", info, err)
	}
	if got := strings.TrimSpace(c.expect(200, "GET", "/system/namespaces", nil)); got != `["openfaas-fn","team"]` {
		t.Error(got)
	}
	if got := strings.TrimSpace(c.expect(200, "GET", "/system/functions?namespace=team", nil)); got != "[]" {
		t.Errorf("an empty list is %s", got)
	}
	c.expect(404, "GET", "/system/functions?namespace=kube-system", nil)
	c.expect(501, "POST", "/system/namespace/other", `{"name":"other"}`)

	// secret create, list, update, remove
	if got := strings.TrimSpace(c.expect(200, "GET", "/system/secrets", nil)); got != "[]" {
		t.Errorf("an empty list is %s", got)
	}
	c.expect(202, "POST", "/system/secrets", types.Secret{Name: "key", Namespace: "openfaas-fn", RawValue: []byte{0, 1}})
	c.expect(409, "POST", "/system/secrets", types.Secret{Name: "key", Value: "x"})
	c.expect(202, "PUT", "/system/secrets", types.Secret{Name: "key", Value: "x"})
	c.expect(404, "PUT", "/system/secrets", types.Secret{Name: "none", Value: "x"})
	if got := c.expect(200, "GET", "/system/secrets", nil); !strings.Contains(got, `"name":"key"`) || strings.Contains(got, "value") {
		t.Error(got)
	}

	// deploy: PUT, and where that is 404, POST
	deployment := types.FunctionDeployment{Service: "echo", Image: "registry.example/echo:1", Secrets: []string{"key"}, Labels: &map[string]string{"a": "b"}}
	c.expect(404, "PUT", "/system/functions", deployment)
	c.expect(202, "POST", "/system/functions", deployment)
	c.expect(202, "PUT", "/system/functions", deployment)
	c.expect(409, "POST", "/system/functions", deployment)
	if got := c.expect(400, "POST", "/system/functions", types.FunctionDeployment{Service: "Echo", Image: "x"}); !strings.Contains(got, `service is "Echo"`) {
		t.Error(got)
	}
	c.expect(400, "POST", "/system/functions", "{")
	if got := c.expect(413, "POST", "/system/functions", `{"service": "`+strings.Repeat("a", maxRequest)+`"}`); !strings.Contains(got, "more than") {
		t.Error(got)
	}
	var status types.FunctionStatus
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && status.Name == ""; time.Sleep(10 * time.Millisecond) {
		_, _, text := c.do("GET", "/system/function/echo?namespace=openfaas-fn&usage=true", nil)
		_ = json.Unmarshal([]byte(text), &status)
	}
	if status.Image != deployment.Image || (*status.Labels)["a"] != "b" || status.Replicas != 1 {
		t.Errorf("%+v", status)
	}
	c.expect(404, "GET", "/system/function/none", nil)

	// list: the container and the runtime, and a warning that the controller's are missing
	code, header, text := c.do("GET", "/system/functions", nil)
	var all []types.FunctionStatus
	if err := json.Unmarshal([]byte(text), &all); err != nil || code != 200 || len(all) != 2 || all[0].Name != "echo" || all[1].AvailableReplicas != 3 || header.Get("Warning") == "" {
		t.Errorf("%d %v %s", code, header, text)
	}

	// scale, invoke, remove
	c.expect(202, "POST", "/system/scale-function/echo", map[string]any{"serviceName": "echo", "replicas": 3})
	c.expect(202, "POST", "/system/scale-function/echo?namespace=openfaas-fn", map[string]any{"replicas": 0})
	c.expect(400, "POST", "/system/scale-function/echo", map[string]any{"serviceName": "echo"})
	c.expect(404, "POST", "/system/scale-function/none", map[string]any{"replicas": 1})
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if code, _, text = c.do("POST", "/function/echo", ""); code == 503 {
			break
		}
	}
	if code != 503 || !strings.Contains(text, "scaled to 0") {
		t.Errorf("%d %s", code, text)
	}
	c.expect(409, "DELETE", "/system/secrets", types.Secret{Name: "key"})
	c.expect(202, "DELETE", "/system/functions?namespace=openfaas-fn", types.DeleteFunctionRequest{FunctionName: "echo", Namespace: "openfaas-fn"})
	c.expect(404, "DELETE", "/system/functions", types.DeleteFunctionRequest{FunctionName: "echo"})
	for end := time.Now().Add(5 * time.Second); code != 202 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		code, _, _ = c.do("DELETE", "/system/secrets", types.Secret{Name: "key"})
	}
	c.expect(404, "DELETE", "/system/secrets", types.Secret{Name: "key"})
	c.expect(501, "POST", "/async-function/python-runtime", "")
}

func TestRuntimesAndRegisteredFunctionsAreNotChangedHere(t *testing.T) {
	c := start(t)
	if got := c.expect(200, "POST", "/function/python-runtime.openfaas-fn/execute", "{}"); got != "ran /execute" {
		t.Error(got)
	}
	for _, name := range []string{"python-runtime", "nodejs-hello"} {
		c.expect(400, "POST", "/system/functions", types.FunctionDeployment{Service: name, Image: "x"})
		c.expect(400, "DELETE", "/system/functions", types.DeleteFunctionRequest{FunctionName: name})
		c.expect(400, "POST", "/system/scale-function/"+name, map[string]any{"replicas": 0})
	}
	if got := c.expect(400, "GET", "/system/logs?name=nodejs-hello", nil); !strings.Contains(got, "no logs of its own") {
		t.Error(got)
	}
}

func TestLogsOfAllReplicas(t *testing.T) {
	c := start(t)
	code, header, text := c.do("GET", "/system/logs?name=python-runtime&namespace=openfaas-fn&follow=false&tail=10", nil)
	if code != 200 || !strings.HasPrefix(header.Get("Content-Type"), "application/x-ndjson") {
		t.Fatalf("%d %v %s", code, header, text)
	}
	instances := map[string]bool{}
	for line := range strings.Lines(text) {
		var message logs.Message
		if err := json.Unmarshal([]byte(line), &message); err != nil {
			t.Fatal(err)
		}
		instances[message.Instance] = message.Name == "python-runtime" && message.Namespace == "openfaas-fn" && message.Text != ""
	}
	if !instances["python-runtime-1"] || !instances["python-runtime-2"] || len(instances) != 2 {
		t.Errorf("%v", instances)
	}
	c.expect(404, "GET", "/system/logs?name=none", nil)
}
