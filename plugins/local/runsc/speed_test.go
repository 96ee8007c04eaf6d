package runsc_test

import "testing"

// TestSpeed only reports: the machines that run tests are too different for a limit here. `make bench` judges.
func TestSpeed(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	work := workDir(t)
	for name, uid := range who(t) {
		t.Run(name, func(t *testing.T) { t.Log(inShim(t, work, uid, "speed")) })
	}
}
