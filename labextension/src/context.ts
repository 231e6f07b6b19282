import type { JupyterFrontEnd } from "@jupyterlab/application";
import { Notification } from "@jupyterlab/apputils";
import type { TranslationBundle } from "@jupyterlab/translation";
import type { KernelLink } from "./link";
import type { Links } from "./links";

/** What all parts of the extension work with. */
export interface IContext {
  app: JupyterFrontEnd;
  links: Links;
  trans: TranslationBundle;
}

/** Do something for the user; when it fails, say why. */
export async function attempt(context: IContext, work: (link: KernelLink) => Promise<unknown>): Promise<void> {
  const link = context.links.current;
  if (link === null) {
    return;
  }
  await tell(context.trans, () => work(link));
}

/** The same, where the link is at hand. */
export async function tell(trans: TranslationBundle, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    Notification.error(trans.__("Agent: %1", reason), { autoClose: 10_000 });
  }
}
