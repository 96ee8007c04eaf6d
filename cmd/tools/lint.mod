module github.com/sandbar-dev/sandbar/cmd/tools

go 1.26.0
