package test

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

var launcher struct {
	once  sync.Once
	tasks chan func()
}

// launch starts a process that dies with this one, however this one ends.
//
// The kernel ties that to the thread that started the process, so all are
// started by one goroutine that keeps its thread for as long as the test
// process lives.
func launch(cmd *exec.Cmd) error {
	launcher.once.Do(func() {
		launcher.tasks = make(chan func())
		go func() {
			runtime.LockOSThread()
			for task := range launcher.tasks {
				task()
			}
		}()
	})
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	launcher.tasks <- func() { started <- cmd.Start() }
	return <-started
}
