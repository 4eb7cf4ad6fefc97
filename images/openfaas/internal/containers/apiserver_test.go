package containers

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"lambda_microservice.platform/images/openfaas/internal/functions"
)

// apiserver starts etcd, kube-apiserver and the controllers that need no node, if APISERVER_BINARIES names their folder.
// away kills the API server for as long as what it is given takes.
func apiserver(t *testing.T) (client kubernetes.Interface, away func(func())) {
	t.Helper()
	binaries := os.Getenv("APISERVER_BINARIES")
	if binaries == "" {
		t.Skip("APISERVER_BINARIES names no folder with etcd, kube-apiserver and kube-controller-manager")
	}
	folder := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keyFile, tokens := filepath.Join(folder, "key"), filepath.Join(folder, "tokens.csv")
	encoded := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	for file, content := range map[string][]byte{keyFile: encoded, tokens: []byte("tests,tester,tester,system:masters\n")} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := func(name string, arguments ...string) *exec.Cmd {
		var output bytes.Buffer
		command := exec.Command(filepath.Join(binaries, name), arguments...)
		command.Stdout, command.Stderr = &output, &output
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = command.Process.Kill()
			_ = command.Wait()
			if t.Failed() {
				t.Logf("%s said: %s", name, output.Bytes()[max(0, output.Len()-2000):])
			}
		})
		return command
	}
	etcd, peer, secure := freePort(t), freePort(t), freePort(t)
	address := fmt.Sprintf("https://127.0.0.1:%d", secure)
	start("etcd", "--data-dir="+filepath.Join(folder, "etcd"), "--unsafe-no-fsync", fmt.Sprintf("--listen-client-urls=http://127.0.0.1:%d", etcd),
		fmt.Sprintf("--advertise-client-urls=http://127.0.0.1:%d", etcd), fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", peer))
	arguments := []string{fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcd), "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", secure), "--cert-dir=" + folder, "--token-auth-file=" + tokens, "--authorization-mode=RBAC",
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + keyFile, "--service-account-signing-key-file=" + keyFile}
	server := start("kube-apiserver", arguments...)
	kubeconfig := filepath.Join(folder, "kubeconfig")
	content := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t","clusters":[{"name":"t","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],
		"users":[{"name":"t","user":{"token":"tests"}}],"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}]}`, address)
	if err := os.WriteFile(kubeconfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err = kubernetes.NewForConfig(&rest.Config{Host: address, BearerToken: "tests", TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: 100, Burst: 200})
	if err != nil {
		t.Fatal(err)
	}
	await := func(what string, true func() error) {
		var err error
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if err = true(); err == nil {
				return
			}
		}
		t.Fatalf("%s: %v", what, err)
	}
	await("the API server", func() error {
		_, err := client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	start("kube-controller-manager", "--kubeconfig="+kubeconfig, "--leader-elect=false", "--secure-port=0",
		"--controllers=deployment-controller,replicaset-controller,garbage-collector-controller,serviceaccount-controller,resourcequota-controller")
	_, err = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: ns, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	await("the service account", func() error {
		_, err := client.CoreV1().ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
	return client, func(meanwhile func()) {
		_ = server.Process.Kill()
		_ = server.Wait()
		meanwhile()
		server = start("kube-apiserver", arguments...)
		await("the API server is back", func() error {
			_, err := client.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
			return err
		})
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// On the real API server: a restricted namespace takes the pods, and what it refuses is said.
func TestOnARealAPIServer(t *testing.T) {
	client, away := apiserver(t)
	ctx := t.Context()
	podsOf := func(name string) []corev1.Pod {
		found, err := client.CoreV1().Pods(ns).List(ctx, listOf(name))
		if err != nil {
			t.Fatal(err)
		}
		return found.Items
	}
	t.Run("lifecycle", func(t *testing.T) {
		lifecycle(t, client, func(name string, replicas int32) {
			eventually(t, "the pods are admitted", func() bool { return len(podsOf(name)) == int(replicas) })
			for _, pod := range podsOf(name) { // no node would say so here
				pod.Status.Phase = corev1.PodRunning
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				if _, err := client.CoreV1().Pods(ns).UpdateStatus(ctx, &pod, metav1.UpdateOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
	t.Run("a quota that is too small is the reason", func(t *testing.T) {
		c := watched(t, client)
		quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "q", Namespace: ns}, Spec: corev1.ResourceQuotaSpec{
			Hard: corev1.ResourceList{corev1.ResourceRequestsMemory: someSettings(t).Memory},
		}}
		if _, err := client.CoreV1().ResourceQuotas(ns).Create(ctx, quota, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the quota counts", func() bool {
			now, err := client.CoreV1().ResourceQuotas(ns).Get(ctx, "q", metav1.GetOptions{})
			return err == nil && len(now.Status.Hard) > 0
		})
		if err := c.Deploy(ctx, request("big"), false); err != nil {
			t.Fatal(err)
		}
		if err := c.Scale(ctx, ns, "big", 3); err != nil {
			t.Fatal(err)
		}
		eventually(t, "describe says why", func() bool {
			status, err := c.Get(ctx, ns, "big")
			return err == nil && strings.Contains((*status.Annotations)[reasonAnnotation], "exceeded quota")
		})
		if err := c.Delete(ctx, ns, "big"); err != nil {
			t.Error(err)
		}
	})
	t.Run("two gateways", func(t *testing.T) {
		c := watched(t, client)
		if err := c.Deploy(ctx, request("g", labelled("com.openfaas.scale.zero", "true")), false); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the function is known", func() bool { return c.Deployment(ns, "g") != nil })
		if err := c.setReplicas(ctx, ns, "g", 0, "1"); functions.StatusOf(err) != http.StatusConflict {
			t.Errorf("a Deployment that has changed since: %v", err)
		}
		eventually(t, "it sleeps", func() bool {
			return c.setReplicas(ctx, ns, "g", 0, c.Deployment(ns, "g").ResourceVersion) == nil
		})
		if err := c.Delete(ctx, ns, "g"); err != nil {
			t.Error(err)
		}
	})
	t.Run("the API server is away", func(t *testing.T) {
		c := watched(t, client)
		for _, name := range []string{"known", "asleep"} {
			if err := c.Deploy(ctx, request(name, labelled("com.openfaas.scale.zero", fmt.Sprint(name == "asleep"))), false); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the function is known", func() bool { return c.Deployment(ns, name) != nil })
		}
		away(func() {
			for range 20 { // calls go on, however long it takes
				if target, err := c.Target(ctx, ns, "known", ""); err != nil || target.Wake != nil {
					t.Fatalf("a call: %+v %v", target, err)
				}
				if all, err := c.List(ctx, ns); err != nil || len(all) != 2 {
					t.Fatalf("the list: %v %v", all, err)
				}
				time.Sleep(100 * time.Millisecond)
			}
			for what, err := range map[string]error{
				"deploying": c.Deploy(ctx, request("new"), false), "scaling": c.Scale(ctx, ns, "known", 2), "removing": c.Delete(ctx, ns, "known"),
			} {
				if functions.StatusOf(err) != http.StatusServiceUnavailable {
					t.Errorf("%s: %v", what, err)
				}
			}
			target, err := c.Target(ctx, ns, "asleep", "")
			if err != nil || target.Wake == nil {
				t.Fatalf("%+v %v", target, err)
			}
			short, stop := context.WithTimeout(ctx, time.Second)
			defer stop()
			if err := target.Wake(short); functions.StatusOf(err) != http.StatusServiceUnavailable {
				t.Errorf("a function that nobody can wake: %v", err)
			}
		})
		if err := c.Deploy(ctx, request("new"), false); err != nil {
			t.Error(err)
		}
		eventually(t, "what came afterwards is known", func() bool { return c.Deployment(ns, "new") != nil })
		for _, name := range []string{"known", "asleep", "new"} {
			if err := c.Delete(ctx, ns, name); err != nil {
				t.Error(err)
			}
		}
	})
}
