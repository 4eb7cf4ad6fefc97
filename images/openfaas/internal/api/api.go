// Package api is the REST API that faas-cli and other OpenFaaS clients speak.
package api

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/openfaas/faas-provider/auth"
	"github.com/openfaas/faas-provider/logs"
	"github.com/openfaas/faas-provider/types"

	"lambda_microservice.platform/images/openfaas/internal/async"
	"lambda_microservice.platform/images/openfaas/internal/containers"
	"lambda_microservice.platform/images/openfaas/internal/functions"
	"lambda_microservice.platform/images/openfaas/internal/proxy"
)

// maxRequest bounds what is read of a request to /system; a secret in base64 is the largest.
const maxRequest = 2 << 20

// An API serves /system, /function, /async-function and /healthz.
type API struct {
	Catalogue  *functions.Catalogue
	Containers *containers.Containers
	Proxy      http.Handler
	Queue      *async.Queue // nil without NATS
	// Credentials of /system; nil where it is open.
	Credentials *auth.BasicAuthCredentials
	Version     string
	// LogsTimeout is how long a client may follow logs.
	LogsTimeout time.Duration
}

// A handler answers a request, or says why not.
type handler func(w http.ResponseWriter, r *http.Request) error

// Handler routes. Functions' paths are not cleaned: they are the functions' own.
//
// The SDK's own server is not used: it cannot be drained, leaves /system/namespaces open and cuts long bodies off at its
// read timeout. Its types, its basic auth and its log handler are.
func (a *API) Handler() http.Handler {
	system := http.NewServeMux()
	for pattern, handle := range map[string]handler{
		"GET /system/info":                   a.info,
		"GET /system/namespaces":             a.namespaces,
		"GET /system/namespace/{name}":       a.namespace,
		"GET /system/functions":              a.list,
		"POST /system/functions":             a.deploy,
		"PUT /system/functions":              a.deploy,
		"DELETE /system/functions":           a.remove,
		"GET /system/function/{name}":        a.describe,
		"POST /system/scale-function/{name}": a.scale,
		"GET /system/secrets":                a.secrets,
		"POST /system/secrets":               a.putSecret,
		"PUT /system/secrets":                a.putSecret,
		"DELETE /system/secrets":             a.deleteSecret,
		"GET /system/logs":                   a.logs,
		"GET /system/dead-letters":           a.deadLetters,
		"POST /system/dead-letters/{call}":   a.deadLetter,
		"DELETE /system/dead-letters/{call}": a.deadLetter,
		"POST /system/namespace/{name}":      a.mutateNamespace,
		"POST /system/namespace/":            a.mutateNamespace,
		"PUT /system/namespace/{name}":       a.mutateNamespace,
		"DELETE /system/namespace/{name}":    a.mutateNamespace,
		"GET /system/telemetry":              notHere,
		"POST /system/alert":                 notHere,
	} {
		system.HandleFunc(pattern, answer(handle))
	}
	guarded := system.ServeHTTP
	if a.Credentials != nil {
		guarded = auth.DecorateWithBasicAuth(guarded, a.Credentials)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.Path; {
		case strings.HasPrefix(path, "/function/"):
			a.Proxy.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/async-function/") && a.Queue != nil:
			a.Queue.ServeHTTP(w, r)
		case strings.HasPrefix(path, "/async-function/"):
			proxy.Refuse(w, functions.Refuse(http.StatusNotImplemented, "this gateway has no queue"))
		case strings.HasPrefix(path, "/system/"):
			r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
			guarded(w, r)
		case path == "/healthz" && r.Method == http.MethodGet:
			_, _ = io.WriteString(w, "OK")
		default:
			proxy.Refuse(w, functions.Refuse(http.StatusNotFound, "there is nothing at %s; functions are at /function/NAME", path))
		}
	})
}

func answer(handle handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := handle(w, r); err != nil {
			if functions.StatusOf(err) >= 500 {
				slog.Error("a request to the API failed", "method", r.Method, "path", r.URL.Path, "error", err)
			}
			proxy.Refuse(w, err)
		}
	}
}

func send(w http.ResponseWriter, value any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(value)
}

func read(r *http.Request, into any) error {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return functions.Refuse(http.StatusRequestEntityTooLarge, "the body has more than %d bytes", large.Limit)
		}
		return functions.Refuse(http.StatusBadRequest, "the body cannot be read: %s", err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		return functions.Refuse(http.StatusBadRequest, "the body is not the JSON that is expected here: %s", err)
	}
	return nil
}

// either takes the namespace from the body, or from the query, as clients differ.
func (a *API) either(r *http.Request, body string) (string, error) {
	if body == "" {
		body = r.URL.Query().Get("namespace")
	}
	return a.Catalogue.Namespace(body)
}

func (a *API) info(w http.ResponseWriter, _ *http.Request) error {
	version := &types.VersionInfo{Release: a.Version, SHA: a.Version}
	return send(w, map[string]any{
		"provider": types.ProviderInfo{Name: "lambda-microservice-compatible", Orchestration: "kubernetes", Version: version},
		"version":  version,
		"arch":     runtime.GOARCH,
	})
}

func (a *API) namespaces(w http.ResponseWriter, _ *http.Request) error {
	return send(w, a.Catalogue.Namespaces)
}

func (a *API) namespace(w http.ResponseWriter, r *http.Request) error {
	name, err := a.Catalogue.Namespace(r.PathValue("name"))
	if err != nil {
		return err
	}
	return send(w, types.FunctionNamespace{Name: name, Annotations: map[string]string{"openfaas": "1"}})
}

func (a *API) mutateNamespace(http.ResponseWriter, *http.Request) error {
	return functions.Refuse(http.StatusNotImplemented, "namespaces are the inventory's, and not made or changed here")
}

func notHere(http.ResponseWriter, *http.Request) error {
	return functions.Refuse(http.StatusNotImplemented, "this gateway does not have that; functions are scaled by Kubernetes")
}

func (a *API) list(w http.ResponseWriter, r *http.Request) error {
	namespace, err := a.either(r, "")
	if err != nil {
		return err
	}
	all, err := a.Catalogue.List(r.Context(), namespace)
	if err != nil {
		// What is known is better than nothing, but is not passed off as all.
		slog.Warn("the list of functions is not complete", "error", err)
		w.Header().Set("Warning", `199 - "not all functions are listed: a part of the platform does not answer"`)
	}
	return send(w, all)
}

func (a *API) describe(w http.ResponseWriter, r *http.Request) error {
	namespace, name := a.Catalogue.Split(r.PathValue("name"))
	if named := r.URL.Query().Get("namespace"); named != "" {
		var err error
		if namespace, err = a.Catalogue.Namespace(named); err != nil {
			return err
		}
	}
	status, err := a.Catalogue.Get(r.Context(), namespace, name)
	if err != nil {
		return err
	}
	return send(w, status)
}

func (a *API) deploy(w http.ResponseWriter, r *http.Request) error {
	var request types.FunctionDeployment
	if err := read(r, &request); err != nil {
		return err
	}
	namespace, err := a.either(r, request.Namespace)
	if err != nil {
		return err
	}
	request.Namespace = namespace
	if err := a.Catalogue.Container(namespace, request.Service, "deployed"); err != nil {
		return err
	}
	if err := a.Containers.Deploy(r.Context(), request, r.Method == http.MethodPut); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) remove(w http.ResponseWriter, r *http.Request) error {
	var request types.DeleteFunctionRequest
	if err := read(r, &request); err != nil {
		return err
	}
	namespace, err := a.either(r, request.Namespace)
	if err != nil {
		return err
	}
	if request.FunctionName == "" {
		return functions.Refuse(http.StatusBadRequest, "functionName is missing")
	}
	if err := a.Catalogue.Container(namespace, request.FunctionName, "removed"); err != nil {
		return err
	}
	if err := a.Containers.Delete(r.Context(), namespace, request.FunctionName); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) scale(w http.ResponseWriter, r *http.Request) error {
	// By a pointer, so that a body without replicas does not scale to 0.
	var request struct {
		ServiceName string  `json:"serviceName"`
		Namespace   string  `json:"namespace"`
		Replicas    *uint64 `json:"replicas"`
	}
	if err := read(r, &request); err != nil {
		return err
	}
	if request.Replicas == nil {
		return functions.Refuse(http.StatusBadRequest, "replicas is missing")
	}
	namespace, name := a.Catalogue.Split(r.PathValue("name"))
	if request.Namespace != "" || r.URL.Query().Get("namespace") != "" {
		var err error
		if namespace, err = a.either(r, request.Namespace); err != nil {
			return err
		}
	}
	if request.ServiceName != "" && request.ServiceName != name {
		return functions.Refuse(http.StatusBadRequest, "serviceName is %q and the path says %q", request.ServiceName, name)
	}
	if err := a.Catalogue.Container(namespace, name, "scaled"); err != nil {
		return err
	}
	if err := a.Containers.Scale(r.Context(), namespace, name, *request.Replicas); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) secrets(w http.ResponseWriter, r *http.Request) error {
	namespace, err := a.either(r, "")
	if err != nil {
		return err
	}
	all, err := a.Containers.Secrets(r.Context(), namespace)
	if err != nil {
		return err
	}
	return send(w, all)
}

func (a *API) secret(r *http.Request) (types.Secret, error) {
	var secret types.Secret
	err := read(r, &secret)
	if err == nil {
		secret.Namespace, err = a.either(r, secret.Namespace)
	}
	return secret, err
}

func (a *API) putSecret(w http.ResponseWriter, r *http.Request) error {
	secret, err := a.secret(r)
	if err != nil {
		return err
	}
	if err := a.Containers.PutSecret(r.Context(), secret, r.Method == http.MethodPut); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) deleteSecret(w http.ResponseWriter, r *http.Request) error {
	secret, err := a.secret(r)
	if err != nil {
		return err
	}
	if err := a.Containers.DeleteSecret(r.Context(), secret.Namespace, secret.Name); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) logs(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	namespace, name := a.Catalogue.Split(query.Get("name"))
	if named := query.Get("namespace"); named != "" {
		var err error
		if namespace, err = a.Catalogue.Namespace(named); err != nil {
			return err
		}
	}
	if a.Containers.Deployment(namespace, name) == nil {
		if _, ok := a.Catalogue.Find(namespace, name).(*functions.Registered); ok {
			return functions.Refuse(http.StatusBadRequest, "%s has no logs of its own: it runs in the runtime of its language", name)
		}
		return functions.Unknown(namespace, name)
	}
	query.Set("name", name)
	query.Set("namespace", namespace)
	r.URL.RawQuery = query.Encode()
	logs.NewLogHandlerFunc(containers.Logs{Containers: a.Containers}, a.LogsTimeout)(w, r)
	return nil
}

func (a *API) deadLetters(w http.ResponseWriter, r *http.Request) error {
	if a.Queue == nil || !a.Queue.Store.Ready() {
		return functions.Refuse(http.StatusServiceUnavailable, "the queue is away")
	}
	all, err := a.Queue.DeadLetters(r.Context())
	if err != nil {
		return err
	}
	return send(w, all)
}

func (a *API) deadLetter(w http.ResponseWriter, r *http.Request) error {
	if a.Queue == nil || !a.Queue.Store.Ready() {
		return functions.Refuse(http.StatusServiceUnavailable, "the queue is away")
	}
	if err := a.Queue.Dead(r.Context(), r.PathValue("call"), r.Method == http.MethodPost); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}
