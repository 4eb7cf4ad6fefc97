package settings

import (
	"strings"
	"testing"
	"time"
)

func TestAllThatIsWrongIsNamedAtOnce(t *testing.T) {
	r := From(map[string]string{"PORT": "http", "TIMEOUT_SECONDS": "-1", "AUTH": "yes", "CONTROLLER_URL": "controller:8080", "FINE": "7"})
	r.Number("PORT", 8080, 1, 65535)
	r.Seconds("TIMEOUT_SECONDS", time.Second)
	r.Switch("AUTH", true)
	r.URL("CONTROLLER_URL", "http", "https")
	if r.Number("FINE", 1, 0, 10) != 7 {
		t.Error("a right value was not taken")
	}
	err := r.Err()
	if err == nil {
		t.Fatal("nothing was refused")
	}
	for _, name := range []string{"PORT", "TIMEOUT_SECONDS", "AUTH", "CONTROLLER_URL"} {
		if !strings.Contains(err.Error(), name+` is "`) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "FINE") {
		t.Errorf("a right value is named in: %v", err)
	}
}

func TestWhatIsNotSetHasItsDefault(t *testing.T) {
	r := From(map[string]string{"EMPTY": "", "NAMES": " a, b ,,c"})
	if r.Text("EMPTY", "x") != "x" || r.Seconds("NONE", 3*time.Second) != 3*time.Second || !r.Switch("NONE", true) || r.URL("NONE", "http") != nil {
		t.Error("a default was not taken")
	}
	if got := strings.Join(r.List("NAMES"), "|"); got != "a|b|c" {
		t.Errorf("list: %s", got)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}
