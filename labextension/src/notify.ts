import { Notification as Toast } from "@jupyterlab/apputils";
import type { NotebookPanel } from "@jupyterlab/notebook";
import { type IContext, tell } from "./context";
import type { KernelLink } from "./link";
import { summary } from "./format";
import type { IPermission } from "./protocol";
import type { Choices } from "./settings";

const WAITING = "am-mod-waiting";

interface IShown {
  toast: string | null;
  desktop: Notification | null;
}

/** Tells that an agent waits, in whichever notebook: toast, desktop notification, mark on the tab. */
export class Notifier {
  constructor(
    private readonly context: IContext,
    private readonly choices: Choices,
    private readonly showPanel: (panel: NotebookPanel) => void,
  ) {
    context.links.changed.connect(this.update, this);
    choices.changed.connect(this.askBrowser, this);
  }

  private update(): void {
    const open = new Set<string>();
    for (const { panel, link } of this.context.links.all()) {
      const permissions = link?.state.permissions ?? [];
      mark(panel, permissions.length > 0);
      for (const permission of permissions) {
        open.add(permission.id);
        if (link !== null && !this._shown.has(permission.id)) {
          this._shown.set(permission.id, this.show(panel, link, permission));
        }
      }
    }
    for (const [id, { toast, desktop }] of [...this._shown]) {
      if (!open.has(id)) {
        this._shown.delete(id);
        desktop?.close();
        if (toast !== null) {
          Toast.dismiss(toast);
        }
      }
    }
  }

  private show(panel: NotebookPanel, link: KernelLink, permission: IPermission): IShown {
    return {
      toast: this.choices.toasts ? this.toast(panel, link, permission) : null,
      desktop: this.choices.desktopNotifications && document.hidden ? this.desktop(panel, permission) : null,
    };
  }

  private toast(panel: NotebookPanel, link: KernelLink, permission: IPermission): string {
    const { trans } = this.context;
    const answer = (reply: "once" | "reject") => void tell(trans, () => link.answer(permission.id, reply));
    const { text, isWhole } = summary(panel.title.label, permission);
    const allow: Toast.IAction = {
      label: trans.__("Allow once"),
      displayType: "accent",
      callback: () => answer("once"),
    };
    return Toast.emit(text, "warning", {
      autoClose: false,
      actions: [
        ...(isWhole ? [allow] : []), // nobody allows what they can't see
        { label: trans.__("Reject"), displayType: "warn", callback: () => answer("reject") },
        {
          label: trans.__("Show"),
          callback: (event) => {
            event.preventDefault(); // the toast stays until the question is answered
            this.showPanel(panel);
          },
        },
      ],
    });
  }

  private desktop(panel: NotebookPanel, permission: IPermission): Notification | null {
    if (!("Notification" in window) || Notification.permission !== "granted") {
      return null;
    }
    const { trans } = this.context;
    const told = new Notification(trans.__("The agent waits for you"), {
      body: summary(panel.title.label, permission).text,
      tag: permission.id,
    });
    told.onclick = () => {
      window.focus();
      this.showPanel(panel);
    };
    return told;
  }

  /** Browsers show notifications of pages that were allowed to. */
  private askBrowser(): void {
    if (this.choices.desktopNotifications && "Notification" in window && Notification.permission === "default") {
      void Notification.requestPermission();
    }
  }

  private readonly _shown = new Map<string, IShown>();
}

/** Mark a notebook's tab; its other classes stay. */
function mark(panel: NotebookPanel, isWaiting: boolean): void {
  const classes = panel.title.className.split(" ").filter((name) => name && name !== WAITING);
  const wanted = (isWaiting ? [...classes, WAITING] : classes).join(" ");
  if (panel.title.className !== wanted) {
    panel.title.className = wanted;
  }
}
