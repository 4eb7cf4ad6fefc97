// gateway serves the OpenFaaS-compatible API and leads calls to functions. README.md names its variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/openfaas/faas-provider/auth"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"lambda_microservice.platform/images/openfaas/internal/api"
	"lambda_microservice.platform/images/openfaas/internal/async"
	"lambda_microservice.platform/images/openfaas/internal/containers"
	"lambda_microservice.platform/images/openfaas/internal/cron"
	"lambda_microservice.platform/images/openfaas/internal/functions"
	"lambda_microservice.platform/images/openfaas/internal/metrics"
	"lambda_microservice.platform/images/openfaas/internal/proxy"
	"lambda_microservice.platform/images/openfaas/internal/service"
	"lambda_microservice.platform/images/openfaas/internal/settings"
)

var version = "0.1.0"

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stdout, nil)))
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(78)
	}
}

func run(ctx context.Context) error {
	env := settings.FromEnvironment()
	namespaces := env.List("FUNCTION_NAMESPACES", "openfaas-fn")
	container := containerSettings(env)
	credentials := credentials(env)
	address := net.JoinHostPort(env.Text("HOST", "0.0.0.0"), strconv.Itoa(env.Number("PORT", 8080, 1, 65535)))
	metricsAddress := net.JoinHostPort(env.Text("HOST", "0.0.0.0"), strconv.Itoa(env.Number("METRICS_PORT", 9090, 1, 65535)))
	controller := env.URL("CONTROLLER_URL", "http", "https")
	controllerTimeout := env.Seconds("CONTROLLER_TIMEOUT_SECONDS", 30*time.Second)
	languages := env.List("RUNTIMES", "nodejs-runtime", "python-runtime", "rust-runtime")
	maxParams := env.Number("MAX_PARAMS_BYTES", 4<<20, 1, 1<<30)
	nats := async.OptionsFrom(env)
	callbacks := async.CallbacksFrom(env)
	delay := env.Seconds("SHUTDOWN_DELAY_SECONDS", 5*time.Second)
	logsTimeout := env.Seconds("LOGS_TIMEOUT_SECONDS", time.Hour)
	kubeconfig := env.Text("KUBECONFIG", "")
	configuration, err := clientConfiguration(kubeconfig)
	if err != nil {
		env.Refuse("KUBECONFIG", kubeconfig, "a kubeconfig, or none in a pod with a service account: "+err.Error())
	}
	if err := env.Err(); err != nil {
		return err
	}
	// Of many deployments at once none should wait for the client's own brake.
	configuration.QPS, configuration.Burst = 50, 100
	client, err := kubernetes.NewForConfig(configuration)
	if err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	deployed := containers.NewContainers(client, namespaces, container, containers.ClusterAddress)
	transport := proxy.NewTransport()
	catalogue := &functions.Catalogue{Namespaces: namespaces, Containers: deployed, Sources: []functions.Source{&containers.Runtimes{
		Namespace: namespaces[0], Names: languages, Timeout: container.Timeout, Address: containers.ClusterAddress, Deployment: deployed.Deployment,
	}}}
	if controller != nil {
		catalogue.Sources = append(catalogue.Sources, &functions.Registered{
			Controller: controller, Namespace: namespaces[0], Timeout: controllerTimeout, MaxBody: int64(maxParams), Client: proxy.SentOnce(transport),
		})
	}
	calls := metrics.New(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), metrics.Replicas(deployed.Replicas))
	served := &api.API{
		Catalogue: catalogue, Containers: deployed, Credentials: credentials, Version: version, LogsTimeout: logsTimeout,
		Proxy: &proxy.Proxy{Target: catalogue.Target, Transport: transport, Calls: calls},
	}
	var clock *cron.Clock
	if nats.URL != "" {
		store, err := async.Connect(ctx, nats, nil)
		if err != nil {
			return err
		}
		defer store.Close()
		served.Queue = &async.Queue{Store: store, Target: catalogue.Target, Callbacks: callbacks, Calls: calls}
		clock = &cron.Clock{Each: deployed.Scheduled, Target: catalogue.Target, Run: served.Queue.Cron}
	}
	deployed.Start(ctx)
	program := &service.Service{
		Handler: served.Handler(), Address: address, MetricsAddress: metricsAddress, Registry: calls.Registry,
		// NATS away is no reason to take the gateway out: calls that need no queue go on.
		Ready: func() error {
			if !deployed.Synced() {
				return errors.New("the functions are not known yet: the API server has not answered")
			}
			return nil
		},
		Delay: delay, Grace: container.MaxTimeout + 5*time.Second,
	}
	return program.Run(ctx, func(ctx context.Context) {
		go deployed.WatchIdle(ctx)
		if clock != nil {
			go clock.Watch(ctx)
		}
		<-ctx.Done()
	})
}

func clientConfiguration(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

func credentials(env *settings.Reader) *auth.BasicAuthCredentials {
	if !env.Switch("BASIC_AUTH", true) {
		return nil
	}
	folder := env.Text("SECRET_MOUNT_PATH", "/var/openfaas/basic-auth")
	credentials, err := (&auth.ReadBasicAuthFromDisk{SecretMountPath: folder}).Read()
	if err != nil {
		env.Refuse("SECRET_MOUNT_PATH", folder, "a folder with the files basic-auth-user and basic-auth-password: "+err.Error())
	} else if credentials.User == "" || credentials.Password == "" {
		env.Refuse("SECRET_MOUNT_PATH", folder, "a folder whose files basic-auth-user and basic-auth-password are not empty")
	}
	return credentials
}

func containerSettings(env *settings.Reader) containers.Settings {
	quantity := func(name, otherwise string) resource.Quantity {
		text := env.Text(name, otherwise)
		value, err := resource.ParseQuantity(text)
		if err != nil || value.Sign() <= 0 {
			env.Refuse(name, text, "a quantity as in 256Mi or 50m")
		}
		return value
	}
	file := env.Text("FUNCTION_POLICY_FILE", "")
	policy, err := containers.ReadPolicy(file)
	if err != nil {
		env.Refuse("FUNCTION_POLICY_FILE", file, "a file of JSON with `ingress` and `flows`: "+err.Error())
	}
	s := containers.Settings{
		Memory: quantity("FUNCTION_MEMORY", "256Mi"), CPU: quantity("FUNCTION_CPU", "50m"),
		Timeout: env.Seconds("FUNCTION_TIMEOUT_SECONDS", 30*time.Second), MaxTimeout: env.Seconds("FUNCTION_MAX_TIMEOUT_SECONDS", 30*time.Second),
		User: int64(env.Number("FUNCTION_USER", 10001, 1, 1<<31-1)), PullSecrets: env.List("FUNCTION_PULL_SECRETS"),
		PreStop: env.Seconds("FUNCTION_PRE_STOP_SECONDS", 5*time.Second), Policy: policy,
	}
	if s.Timeout > s.MaxTimeout {
		env.Refuse("FUNCTION_TIMEOUT_SECONDS", s.Timeout.String(), "at most FUNCTION_MAX_TIMEOUT_SECONDS, which is "+s.MaxTimeout.String())
	}
	return s
}
