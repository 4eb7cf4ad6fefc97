// The part of kube-router that enforces NetworkPolicies, and no other: upstream's own main links its router and its service
// proxy too, and with them BGP, the AWS SDK and Docker's client: two thirds of what it is compiled from. In a node of the
// local cluster CNI plugins make the network and kube-proxy the Services.
// https://github.com/cloudnativelabs/kube-router/blob/v2.1.0/pkg/cmd/kube-router.go
package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const (
	// Programs of the image that write the tables of the kernel's older interface.
	legacy = "/usr/local/lib/iptables-legacy"
	// Is there when the first synchronization has ended.
	synchronized = "/tmp/synchronized"
)

func main() {
	klog.InitFlags(nil)
	flag.Parse()
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	// It reads the whole filter table, adds its chains and writes the table back, and so would undo what kube-proxy writes in
	// between. In the kernel's other set of tables it is alone, and its commands take a fifth of the time.
	if exec.Command(legacy+"/iptables", "-t", "filter", "-S").Run() == nil {
		must(os.Setenv("PATH", legacy+":"+os.Getenv("PATH")))
	}

	config := options.NewKubeRouterConfig()
	config.EnableIPv4 = true
	configuration, err := rest.InClusterConfig()
	must(err)
	client, err := kubernetes.NewForConfig(configuration)
	must(err)

	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stopped.Done())
	factory.WaitForCacheSync(stopped.Done())

	tables, sets, err := netpol.NewIPTablesHandlers(config)
	must(err)
	for family, handler := range tables {
		tables[family] = &remembered{IPTablesHandler: handler, answers: map[string]any{}}
	}
	controller, err := netpol.NewNetworkPolicyController(
		client, config, pods, policies, namespaces, &sync.Mutex{}, tables, sets)
	must(err)
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods: controller.PodEventHandler, namespaces: controller.NamespaceEventHandler,
		policies: controller.NetworkPolicyEventHandler,
	} {
		_, err := informer.AddEventHandler(handler)
		must(err)
	}

	// Each synchronization begins with a heartbeat and waits until it is taken: at the second one, the first has ended.
	if err := os.Remove(synchronized); !os.IsNotExist(err) {
		must(err)
	}
	heartbeats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		<-heartbeats
		controller.RequestFullSync()
		<-heartbeats
		must(os.WriteFile(synchronized, nil, 0o600))
		for range heartbeats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(heartbeats, stopped.Done(), &running)
	running.Wait()
	// Chains that nobody keeps would cut off every pod that is made later.
	controller.Cleanup()
}

func must(err error) {
	if err != nil {
		klog.Fatal(err)
	}
}
