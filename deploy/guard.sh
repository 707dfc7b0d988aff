# For ~/.bashrc, ~/.zshrc or ~/.profile: `. /path/to/guard.sh`. From then on what you type as docker is backupd's to
# look at: what would remove volumes saves the protected ones first, all else is docker itself, unchanged.
# `command docker …` goes around it.
docker() { command backupd docker "$@"; }
alias docker-compose='backupd compose'
