package main

import (
	"strings"
	"testing"
)

func TestTheStartNamesAllThatIsWrong(t *testing.T) {
	wrong := map[string]string{
		"PORT": "http", "SECRET_MOUNT_PATH": t.TempDir(), "FUNCTION_MEMORY": "much", "FUNCTION_POLICY_FILE": "/nowhere.json", "CONTROLLER_URL": "controller",
		"NATS_URL": "http://nats:4222", "CALLBACK_NETWORKS": "10.0.0.0", "FUNCTION_TIMEOUT_SECONDS": "31", "KUBECONFIG": "/nowhere", "ACK_WAIT_SECONDS": "0.5",
	}
	for name, value := range wrong {
		t.Setenv(name, value)
	}
	err := run(t.Context())
	if err == nil {
		t.Fatal("it started")
	}
	for name := range wrong {
		if !strings.Contains(err.Error(), name+" is ") {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
}
