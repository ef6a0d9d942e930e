// The first process of a machine and of every pod: it reaps what others leave behind, and waits to be ended.
//
// A machine is known by the folder that is pause's first argument. With the second argument "lifeline" it ends as soon
// as its standard input does, that is when whoever holds the other end is gone, for whatever reason.
package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	if len(os.Args) > 2 && os.Args[2] == "lifeline" {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
	}
	fmt.Println("ready")
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for child := 1; child > 0; {
			child, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}
