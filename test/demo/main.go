// Command demo plays Sallyport's story on real control planes: a hub and three
// members with their agents, a Git repository, and two people. Run it with
// "make demo"; with KEEP=1 everything is left running until "make demo-stop".
//
// Everything it writes is below .demo in the repository. A lock on that folder,
// which the kernel drops with the process, keeps two demos from sharing it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

func main() {
	keep := flag.Bool("keep", false, "leave everything running")
	stop := flag.Bool("stop", false, "stop what -keep left running")
	flag.Parse()

	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, cancel) // a second ^C ends this process at once, and its children with it
	out := newScreen(os.Stdout)
	var err error
	if *stop {
		err = end(out)
	} else {
		err = demo(ctx, out, *keep)
	}
	if err != nil {
		out.failure(err)
		os.Exit(1)
	}
}

var errStory = errors.New("the story did not go as expected")

// demo boots the world, plays the story and, unless it is to be kept, ends it.
func demo(ctx context.Context, out *screen, keep bool) (err error) {
	dir, unlock, err := claim()
	if err != nil {
		return err
	}
	defer unlock()
	began := time.Now()
	out.opening()
	if err := empty(dir, "bin"); err != nil {
		return err
	}
	w, err := boot(ctx, out, dir, keep)
	if err != nil {
		return interrupted(ctx, err)
	}
	kept := false
	defer func() {
		if kept {
			return
		}
		out.note("Stopping everything.")
		err = errors.Join(err, w.fleet.Stop(), empty(dir, "bin", "logs", "repo"))
		if n, _ := controlplane.Running(dir); n > 0 {
			err = errors.Join(err, fmt.Errorf("%d processes are still running: make demo-stop", n))
		}
	}()

	ok := play(ctx, out, w)
	if ctx.Err() != nil {
		return interrupted(ctx, ctx.Err())
	}
	out.total(time.Since(began))
	if keep {
		if err := invite(ctx, out, w); err != nil {
			return interrupted(ctx, err)
		}
		kept = true
	}
	if !ok {
		return fmt.Errorf("%w; the logs are in %s", errStory, short(filepath.Join(dir, "logs")))
	}
	return nil
}

// end stops a kept demo.
func end(out *screen) error {
	dir, err := folder()
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		out.say("There is no demo to stop.")
		return nil
	}
	unlock, err := lock(dir)
	if err != nil {
		return fmt.Errorf("%w: end it with ^C where it runs", err)
	}
	defer unlock()
	n, err := controlplane.Running(dir)
	if err != nil {
		return err
	}
	if n == 0 {
		out.say("No demo is running.")
		return nil
	}
	if err := errors.Join(controlplane.StopDetached(dir), empty(dir, "bin", "logs", "repo")); err != nil {
		return err
	}
	out.say(fmt.Sprintf("Stopped %d processes. The logs and the repository are still in %s.", n, short(dir)))
	return nil
}

// claim returns the demo's folder, if nobody uses it.
func claim() (dir string, unlock func(), err error) {
	if dir, err = folder(); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	if unlock, err = lock(dir); err != nil {
		return "", nil, err
	}
	n, err := controlplane.Running(dir)
	if n > 0 {
		err = errors.New("a demo is running already, kept by make demo KEEP=1; end it first: make demo-stop")
	}
	if err != nil {
		unlock()
		return "", nil, err
	}
	return dir, unlock, nil
}

func folder() (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(root, example)); err != nil {
		return "", fmt.Errorf("cannot play here: run make demo in the root of Sallyport's repository: %w", err)
	}
	return filepath.Join(root, ".demo"), nil
}

func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("a demo is being played here already")
	}
	return func() { f.Close() }, nil
}

// empty clears the demo's folder, but for what is spared.
func empty(dir string, spared ...string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	spare := map[string]bool{}
	for _, name := range spared {
		spare[name] = true
	}
	for _, e := range entries {
		if !spare[e.Name()] {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// interrupted says so instead of naming whatever ^C broke off.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// short is a path as it is typed in the repository.
func short(path string) string {
	root, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(root, path); err == nil {
		return rel
	}
	return path
}
