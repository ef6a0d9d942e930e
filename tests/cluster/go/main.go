// Every Kubernetes daemon that a test cluster needs, and kubectl, in one binary: its name chooses, else the first argument.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kube-proxy":              proxy.NewProxyCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
}

func main() {
	arguments := os.Args
	if programs[filepath.Base(arguments[0])] == nil {
		arguments = arguments[1:]
	}
	if len(arguments) == 0 || programs[filepath.Base(arguments[0])] == nil {
		fmt.Fprintln(os.Stderr, "usage: kube PROGRAM [ARGUMENT…], where PROGRAM is a Kubernetes daemon or kubectl")
		os.Exit(2)
	}
	os.Args = arguments
	os.Exit(cli.Run(programs[filepath.Base(arguments[0])]()))
}
