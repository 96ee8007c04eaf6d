package completion

// Script returns the script for bash, zsh or fish.
func Script(shell string) string { return scripts[shell] }

var scripts = map[string]string{
	"bash": `# bash completion for sandbar
_sandbar() {
    local IFS=$'\n' line
    COMPREPLY=()
    while read -r line; do
        COMPREPLY+=("${line%%$'\t'*}")
    done < <(sandbar __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _sandbar sandbar
`,
	"zsh": `#compdef sandbar
# zsh completion for sandbar
_sandbar() {
    local -a found
    local line text
    while IFS= read -r line; do
        text=${line%%$'\t'*}
        if [[ $line == *$'\t'* ]]; then
            found+=("${text//:/\\:}:${line#*$'\t'}")
        else
            found+=("${text//:/\\:}")
        fi
    done < <(sandbar __complete -- "${(@)words[2,$CURRENT]}" 2>/dev/null)
    if (( ${#found} )); then
        _describe -V sandbar found
    else
        _files
    fi
}
compdef _sandbar sandbar
`,
	"fish": `# fish completion for sandbar
function __sandbar_complete
    set -l words (commandline -opc) (commandline -ct)
    sandbar __complete -- $words[2..-1] 2>/dev/null
end
complete -c sandbar -a '(__sandbar_complete)'
`,
}
